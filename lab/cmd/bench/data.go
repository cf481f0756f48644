package main

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// makeTree writes count files with size bytes in all, as a container's writable layer has them: skewed sizes; a half of
// the bytes text, a third like programs, the rest already compressed.
func makeTree(dir string, count int, size int64) error {
	rng := rand.New(rand.NewPCG(1, 2))
	weights := make([]float64, count)
	sum := 0.0
	for i := range weights {
		u := rng.Float64()
		weights[i] = 1 / (0.002 + u*u)
		sum += weights[i]
	}
	for i, w := range weights {
		n := int(w / sum * float64(size))
		sub := filepath.Join(dir, fmt.Sprintf("d%03d", i%200))
		if err := os.MkdirAll(sub, 0o755); err != nil {
			return err
		}
		b := make([]byte, n)
		switch {
		case i%6 < 3:
			fillText(rng, b)
		case i%6 < 5:
			fillProgram(rng, b)
		default:
			fillRandom(rng, b)
		}
		if err := os.WriteFile(filepath.Join(sub, fmt.Sprintf("f%05d", i)), b, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// fillHeap makes memory look like a service's: objects with pointers and counters, text, random bytes, and zeroes, a quarter each.
func fillHeap(b []byte) {
	rng := rand.New(rand.NewPCG(3, 4))
	const block = 1 << 16
	for i := 0; i*block < len(b); i++ {
		part := b[i*block : min((i+1)*block, len(b))]
		switch i % 4 {
		case 0:
			fillProgram(rng, part)
		case 1:
			fillText(rng, part)
		case 2:
			fillRandom(rng, part)
		case 3:
			// Touched, and zero again.
			for j := 0; j < len(part); j += 4096 {
				part[j] = 1
				part[j] = 0
			}
		}
	}
}

var words = []string{"GET", "POST", "/api/v1/orders/", "200", "404", "user=", "session", "\"level\":\"info\"", "\"msg\":\"request\"", "duration_ms", "10.0.7.", "Mozilla/5.0", "checkout", "ts"}

func fillText(rng *rand.Rand, b []byte) {
	for i := 0; i < len(b); {
		i += copy(b[i:], words[rng.IntN(len(words))])
		i += copy(b[i:], fmt.Sprintf(" %d ", rng.Uint32()>>(rng.UintN(24))))
		if rng.IntN(12) == 0 && i < len(b) {
			b[i] = '\n'
			i++
		}
	}
}

// fillProgram writes 32-byte records with an address-like word, a small number, zeroes and a random word: it shrinks to a bit over a third.
func fillProgram(rng *rand.Rand, b []byte) {
	var rec [32]byte
	for i := 0; i < len(b); i += copy(b[i:], rec[:]) {
		binary.LittleEndian.PutUint64(rec[0:], 0xc000000000+uint64(rng.Uint32()>>6)*8)
		binary.LittleEndian.PutUint64(rec[8:], uint64(rng.UintN(256)))
		binary.LittleEndian.PutUint32(rec[24:], rng.Uint32())
	}
}

func fillRandom(rng *rand.Rand, b []byte) {
	for i := 0; i+8 <= len(b); i += 8 {
		binary.LittleEndian.PutUint64(b[i:], rng.Uint64())
	}
}
