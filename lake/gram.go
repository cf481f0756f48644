package lake

import (
	"encoding/binary"
	"hash/maphash"
	"math/bits"
	"strings"
)

// The text index: for each block of 4,096 rows a set of the 3-grams and a set of the 6-grams of all its texts, lower-cased, as bit sets by
// hash. A needle can be in a block only if all its grams are. 3-grams serve short words; 6-grams tell numbers, hashes and
// addresses apart, of which a block has nearly all 3-grams.
const (
	shortBits = 16 // of a hash of a 3-gram: 8 KiB
	longBits  = 20 // of a hash of a 6-gram: 128 KiB, halved while it is sparse
	minLong   = 13 // 1 KiB
)

type grams struct {
	short []uint64
	long  []uint64
	seen  [1024]uint64 // hashes of values met lately, which need not be indexed again
	lower []byte
	seed  maphash.Seed // a value that was made to look repeated would not be found
}

func newGrams() *grams {
	return &grams{short: make([]uint64, 1<<shortBits/64), long: make([]uint64, 1<<longBits/64), seed: maphash.MakeSeed()}
}

func (g *grams) reset() {
	clear(g.short)
	clear(g.long)
	g.seen = [1024]uint64{}
}

var fold = func() (t [256]byte) {
	for i := range t {
		t[i] = byte(i)
		if i >= 'A' && i <= 'Z' {
			t[i] += 'a' - 'A'
		}
	}
	return t
}()

const (
	mixShort = 0x9e3779b97f4a7c15
	mixLong  = 0xd6e8feb86659fd93
)

func hashShort(v uint32) uint32 { return uint32(uint64(v) * mixShort >> (64 - shortBits)) }

func hashLong(v uint64) uint32 { return uint32(v * mixLong >> (64 - longBits)) }

// add indexes a value. What has other than ASCII letters is indexed as it is and in lower case, so that whichever way a needle is
// lower-cased, it is found.
func (g *grams) add(s []byte) {
	if len(s) < 3 {
		return
	}
	if cap(g.lower) < len(s)+8 {
		g.lower = make([]byte, len(s)*2+8)
	}
	l := g.lower[:len(s)+8]
	high := byte(0)
	for i, c := range s {
		l[i] = fold[c]
		high |= c
	}
	g.index(l, len(s))
	if high >= 0x80 {
		// The long s is an s to an expression that ignores case.
		t := strings.ReplaceAll(strings.ToLower(string(s)), "ſ", "s")
		g.index(append([]byte(t), make([]byte, 8)...), len(t))
	}
}

// index takes n bytes of b, which has eight more.
func (g *grams) index(b []byte, n int) {
	i := 0
	for ; i+6 <= n; i++ {
		v := binary.LittleEndian.Uint64(b[i:])
		s := hashShort(uint32(v) & 0xffffff)
		g.short[s>>6] |= 1 << (s & 63)
		l := hashLong(v & 0xffffffffffff)
		g.long[l>>6] |= 1 << (l & 63)
	}
	for ; i+3 <= n; i++ {
		s := hashShort(uint32(binary.LittleEndian.Uint64(b[i:])) & 0xffffff)
		g.short[s>>6] |= 1 << (s & 63)
	}
}

// repeated reports whether a value was met lately, and remembers it.
func (g *grams) repeated(s []byte) bool {
	hash := maphash.Bytes(g.seed, s)
	slot := &g.seen[hash&1023]
	if *slot == hash|1 {
		return true
	}
	*slot = hash | 1
	return false
}

// folded is the long set, halved while fewer than a fifth of its bits are set.
func (g *grams) folded() ([]uint64, int) {
	set, width := g.long, longBits
	for width > minLong {
		n := 0
		for _, w := range set {
			n += bits.OnesCount64(w)
		}
		if n > len(set)*64/5 {
			break
		}
		// The hash's highest bits number the words, so neighbours are those that fall together.
		half := make([]uint64, len(set)/2)
		for i := range half {
			half[i] = squeeze(set[2*i]) | squeeze(set[2*i+1])<<32
		}
		set, width = half, width-1
	}
	return set, width
}

// squeeze ors each pair of neighbouring bits into one.
func squeeze(w uint64) uint64 {
	w = (w | w>>1) & 0x5555555555555555
	w = (w | w>>1) & 0x3333333333333333
	w = (w | w>>2) & 0x0f0f0f0f0f0f0f0f
	w = (w | w>>4) & 0x00ff00ff00ff00ff
	w = (w | w>>8) & 0x0000ffff0000ffff
	w = (w | w>>16) & 0x00000000ffffffff
	return w
}

// gramBits are the bits that a needle's grams have in the sets, of full width.
type gramBits struct {
	short, long []uint32
}

// gramsOf is nil when the needle, lower-cased, is too short to tell anything. Grams with other than ASCII are left out.
func gramsOf(needle string) *gramBits {
	var g gramBits
	b := append([]byte(needle), make([]byte, 8)...)
	ascii := func(i, n int) bool {
		for _, c := range b[i : i+n] {
			if c >= 0x80 {
				return false
			}
		}
		return true
	}
	for i := 0; i+3 <= len(needle); i++ {
		v := binary.LittleEndian.Uint64(b[i:])
		if i+6 <= len(needle) && ascii(i, 6) {
			g.long = append(g.long, hashLong(v&0xffffffffffff))
		}
		if ascii(i, 3) {
			g.short = append(g.short, hashShort(uint32(v)&0xffffff))
		}
	}
	if len(g.short) == 0 {
		return nil
	}
	return &g
}
