// Package generate makes events and logs as a cluster of some 200 containers writes them in two weeks: for benchmarks of the
// timeline, where real text matters because it decides what an index is worth, and real evidence of ten million events can't be
// shipped. The same n and seed give the same bytes.
//
// The mix of Events:
//
//   - 14 days from Start: quiet at night and at weekends, and within the tenth day a burst of twenty minutes at 25 times the
//     usual rate. Events come in the order of time but for a jitter of up to two seconds, as from several writers.
//   - 27 kinds: application logs 36 %, HTTP requests 24 %, network connections and flows 11 %, Kubernetes audit 8 %, DNS 5 %, files
//     4 %, processes 5 %, system calls 3 %, the rest syslog, kernel, logins, cloud calls, services, containers, alerts.
//   - 200 containers, with pods, in 24 namespaces on 12 nodes; 400 users; 100,000 file paths; 100,000 request paths; 50,000
//     addresses, of which a container sees mostly few; 300 user agents. All are skewed by Zipf's law: the k-th has a share of
//     1/k, so that the commonest container has a sixth of the events and most paths occur a few times.
//   - Messages are 40 to 200 bytes, 81 on average, from about 70 templates with numbers, names, addresses and durations. One line in ten of the
//     applications' and of the requests has a random trace id, which no compression helps; one event in a hundred has a SHA-256 of
//     a file, half of them of 2,000 known ones and half seen once.
//   - Attributes have what the parsers of such records give: level, logger, status, user agent, verb, resource and so on. One citation
//     per event: artifacts are the logs of the containers and nodes, with offsets that grow.
//
// Needles are planted at known numbers, scattered over all of the time, when n is at least 1,000: see Word, Hash, Address and Expression.
package generate

import (
	"encoding/hex"
	"math"
	"math/rand/v2"
	"time"

	"github.com/sherd-forensics/sherd/event"
)

// Start is when the first event happens; the last is 14 days later.
var Start = time.Date(2026, 11, 10, 0, 0, 0, 0, time.UTC)

// Days is how long the events last.
const Days = 14

// The needles. They occur nowhere else.
const (
	// Word is in the message of WordCount events.
	Word      = "kdevtmpfsi-needle"
	WordCount = 20
	// Hash is the sha256 of HashCount events.
	Hash      = "5e1f0c6ad3b94c7fa0d81b2c6e7f9a43d2c1b0a998877f6e5d4c3b2a19080706"
	HashCount = 3
	// Address is the dst_ip of AddressCount events.
	Address      = "203.0.113.77"
	AddressCount = 50
	// Expression matches the message of ExpressionCount events.
	Expression      = `stratum\+tcp://[a-z0-9.-]+:(3333|4444|14444)`
	ExpressionCount = 12
)

// needle says what is planted in an event.
type needle uint8

const (
	noNeedle needle = iota
	wordNeedle
	hashNeedle
	addressNeedle
	expressionNeedle
)

// minPlanted is the least number of events that needles are planted in.
const minPlanted = 1000

// plant chooses the events that get needles: each needle's are spread evenly, with chance within their part.
func plant(n int, r *rng) map[int]needle {
	out := map[int]needle{}
	if n < minPlanted {
		return out
	}
	for _, p := range []struct {
		what  needle
		count int
	}{{wordNeedle, WordCount}, {hashNeedle, HashCount}, {addressNeedle, AddressCount}, {expressionNeedle, ExpressionCount}} {
		for i := range p.count {
			from, to := n*i/p.count, n*(i+1)/p.count
			for {
				at := from + r.intn(to-from)
				if out[at] == noNeedle {
					out[at] = p.what
					break
				}
			}
		}
	}
	return out
}

// Events calls emit with n events. The event is the generator's again when emit returns: its strings may be kept, the struct and the bytes
// of Attributes must be copied. An error of emit ends it.
func Events(n int, seed uint64, emit func(*event.Event) error) error {
	g := newGenerator(n, seed)
	needles := plant(n, &g.rng)
	for i := range n {
		g.next(i, needles[i])
		if err := emit(&g.ev); err != nil {
			return err
		}
	}
	return nil
}

// generator makes one event after the other.
type generator struct {
	rng
	*world
	clock clock
	ev    event.Event
	msg   []byte
	attr  event.Attributes
}

func newGenerator(n int, seed uint64) *generator {
	g := &generator{rng: rng{src: rand.NewPCG(seed, 0x5eed)}, clock: newClock(n)}
	g.world = newWorld(&g.rng)
	return g
}

// next makes event i.
func (g *generator) next(i int, plant needle) {
	g.ev = event.Event{EvidenceID: g.evidence, TimeKind: event.Logged}
	g.ev.Time = g.clock.at(i) + int64(g.u64()%uint64(2*time.Second))
	g.msg = g.msg[:0]
	g.attr.Reset()
	m := &mix[g.mixed[g.u64()%uint64(len(g.mixed))]]
	m.make(g)
	switch plant {
	case wordNeedle:
		g.text(" (").text(Word).text(")")
	case hashNeedle:
		g.ev.SHA256 = Hash
	case addressNeedle:
		g.ev.DstIP, g.ev.DstPort, g.ev.Protocol = Address, 443, "tcp"
	case expressionNeedle:
		g.text(" -o stratum+tcp://pool").num(g.intn(9)).text(".example.net:").text([]string{"3333", "4444", "14444"}[g.intn(3)])
	}
	g.ev.Message = string(g.msg)
	g.ev.Attributes = g.attr.JSON()
	g.cite()
}

// cite gives the event its place in its artifact.
func (g *generator) cite() {
	if g.ev.Artifact == "" {
		return
	}
	o := g.offsets[g.ev.Artifact]
	if o == nil {
		o = new(int64)
		g.offsets[g.ev.Artifact] = o
	}
	g.ev.Offset = *o
	g.ev.Length = int64(60 + len(g.msg) + g.attr.Len())
	*o += g.ev.Length + 1
}

// rng is a fast source of chance.
type rng struct{ src *rand.PCG }

func (r *rng) u64() uint64 { return r.src.Uint64() }

func (r *rng) intn(n int) int { return int((r.src.Uint64() >> 33) * uint64(n) >> 31) }

func (r *rng) float() float64 { return float64(r.src.Uint64()>>11) / (1 << 53) }

// one reports true once in n times.
func (r *rng) one(n int) bool { return r.intn(n) == 0 }

// zipf draws a rank below n, of which the k-th has a share of 1/k. logN is the logarithm of n+1.
func (r *rng) zipf(n int, logN float64) int { return min(int(math.Exp(r.float()*logN))-1, n-1) }

// hex gives n random bytes in hex.
func (r *rng) hex(n int) string {
	var b [32]byte
	for i := 0; i < n; i += 8 {
		v := r.u64()
		for j := range 8 {
			b[i+j] = byte(v >> (8 * j))
		}
	}
	return hex.EncodeToString(b[:n])
}

// clock tells when the events happen.
type clock struct {
	n    float64
	sums []float64 // of the rate, by the minutes so far
	// where the last one was: they are asked for in order
	minute int
}

func newClock(n int) clock {
	const minutes = Days * 24 * 60
	c := clock{n: float64(max(n, 1)), sums: make([]float64, minutes+1)}
	for m := range minutes {
		hour := float64(m%(24*60)) / 60
		rate := 1 + 0.75*math.Sin((hour-8)/24*2*math.Pi)
		if day := Start.AddDate(0, 0, m/(24*60)).Weekday(); day == time.Saturday || day == time.Sunday {
			rate *= 0.45
		}
		if from := 9*24*60 + 3*60; m >= from && m < from+20 {
			rate *= 25
		}
		c.sums[m+1] = c.sums[m] + rate
	}
	return c
}

// at is the time of event i in nanoseconds; i never falls.
func (c *clock) at(i int) int64 {
	place := float64(i) / c.n * c.sums[len(c.sums)-1]
	for c.minute < len(c.sums)-2 && c.sums[c.minute+1] <= place {
		c.minute++
	}
	part := (place - c.sums[c.minute]) / (c.sums[c.minute+1] - c.sums[c.minute])
	return Start.UnixNano() + int64((float64(c.minute)+part)*float64(time.Minute))
}
