package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestMain plays the contestants' parts when the benchmark runs this program again.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && strings.HasPrefix(os.Args[1], "child-") {
		if err := child(os.Args[1], os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// TestLakes: on a small lake, every question finds what was planted, and DuckDB by itself the same.
func TestLakes(t *testing.T) {
	b := bench{turns: 1, asks: 1, events: []int{20_000}, scratch: t.TempDir()}
	if err := b.lakes(); err != nil {
		t.Fatal(err)
	}
}

func TestFirstNumber(t *testing.T) {
	for s, want := range map[string]int64{"12\n": 12, "1,234,567 events match\n": 1234567, " 0 events": 0} {
		if got, err := firstNumber(s); got != want || err != nil {
			t.Errorf("%q: %d, %v", s, got, err)
		}
	}
	if _, err := firstNumber("none"); err == nil {
		t.Error("a word is no number")
	}
}
