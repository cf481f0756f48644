// Command miner is the harmless stand-in for a coin miner: it speaks stratum, in lines of JSON, with the lab's own listener, hashes
// with a bounded share of one processor for a bounded time, and hands in what it "found". It mines nothing and ends after an hour.
// The protocol is described in https://en.bitcoin.it/wiki/Stratum_mining_protocol
package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"time"
)

func main() {
	pool := flag.String("pool", "", "address of the pool")
	share := flag.Int("share", 50, "percent of one processor")
	last := flag.Duration("for", 5*time.Second, "how long to hash")
	flag.Parse()
	if err := mine(*pool, min(max(*share, 1), 90), min(*last, 30*time.Second)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

type call struct {
	ID     int    `json:"id"`
	Method string `json:"method"`
	Params []any  `json:"params"`
}

func mine(pool string, share int, last time.Duration) error {
	c, err := net.DialTimeout("tcp4", pool, 10*time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	out := json.NewEncoder(c)
	// The agent's name says what the lab must know of the process; a miner's says its version there.
	agent := fmt.Sprintf("labminer/1.0 pid=%d mode=miner", os.Getpid())
	if err := out.Encode(call{1, "mining.subscribe", []any{agent, "x"}}); err != nil {
		return err
	}
	in := bufio.NewScanner(c)
	in.Scan()
	if err := out.Encode(call{2, "mining.authorize", []any{"wallet.worker1", "x"}}); err != nil {
		return err
	}
	go func() {
		for in.Scan() { // jobs; none is ever done
		}
	}()
	var block [80]byte
	for began, n := time.Now(), uint64(0); time.Since(began) < last; {
		const turn = 50 * time.Millisecond
		for at := time.Now(); time.Since(at) < turn*time.Duration(share)/100; n++ {
			binary.LittleEndian.PutUint64(block[72:], n)
			first := sha256.Sum256(block[:])
			second := sha256.Sum256(first[:])
			copy(block[:32], second[:])
		}
		time.Sleep(turn * time.Duration(100-share) / 100)
		if n%64 == 0 {
			if err := out.Encode(call{int(n % 1000), "mining.submit", []any{"wallet.worker1", "1", fmt.Sprintf("%016x", n)}}); err != nil {
				return err
			}
		}
	}
	time.Sleep(time.Hour)
	return nil
}
