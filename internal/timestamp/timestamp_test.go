package timestamp_test

import (
	"testing"
	"time"

	"github.com/sherd-forensics/sherd/internal/timestamp"
)

func TestPrefix(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	latest := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		in   string
		zone *time.Location
		want string // RFC 3339 with nanoseconds, empty for none
		mark string
		rest string
	}{
		{in: "2026-11-24T03:02:11.204Z rest", want: "2026-11-24T03:02:11.204Z", rest: " rest"},
		{in: "2026-11-24T03:02:11.123456789123+01:00", want: "2026-11-24T02:02:11.123456789Z"},
		{in: "2026-11-24 03:02:11,204 INFO", want: "2026-11-24T03:02:11.204Z", mark: "zone", rest: " INFO"},
		{in: "2026-11-24 03:02:11 +0530 x", want: "2026-11-23T21:32:11Z", rest: " x"},
		{in: "2026-11-24 03:02:11 UTC [12] LOG", want: "2026-11-24T03:02:11Z", rest: " [12] LOG"},
		{in: "[2026-11-24 03:02:11 +0000] [7] [INFO]", want: "2026-11-24T03:02:11Z", rest: " [7] [INFO]"},
		{in: "2026/11/24 03:02:11 [error]", want: "2026-11-24T03:02:11Z", mark: "zone", rest: " [error]"},
		{in: "2026/11/24 - 03:02:11 | 200", want: "2026-11-24T03:02:11Z", mark: "zone", rest: " | 200"},
		{in: "20261124T030211Z", want: "2026-11-24T03:02:11Z"},
		{in: "[24/Nov/2026:03:02:11 +0100] \"GET", want: "2026-11-24T02:02:11Z", rest: " \"GET"},
		{in: "Tue Nov 24 03:02:11 2026 x", want: "2026-11-24T03:02:11Z", mark: "zone", rest: " x"},
		{in: "Tue Nov 24 03:02:11 UTC 2026", want: "2026-11-24T03:02:11Z"},
		{in: "[Tue Nov 24 03:02:11.204060 2026] [mpm", want: "2026-11-24T03:02:11.20406Z", mark: "zone", rest: " [mpm"},
		{in: "Tue, 24 Nov 2026 03:02:11 GMT", want: "2026-11-24T03:02:11Z"},
		{in: "24 Nov 2026 03:02:11", want: "2026-11-24T03:02:11Z", mark: "zone"},
		{in: "24-Nov-2026 03:02:11.204 INFO", want: "2026-11-24T03:02:11.204Z", mark: "zone", rest: " INFO"},
		{in: "11/24/2026 03:02:11", want: "2026-11-24T03:02:11Z", mark: "zone"},
		{in: "24/11/2026 03:02:11", want: "2026-11-24T03:02:11Z", mark: "zone"},
		{in: "24.11.2026 03:02:11", want: "2026-11-24T03:02:11Z", mark: "zone"},
		// Without a year: the nearest before the capture, with a day's grace.
		{in: "Nov 24 03:02:11 host x", want: "2025-11-24T03:02:11Z", mark: "year,zone", rest: " host x"},
		{in: "Mar  2 11:59:59 host", want: "2026-03-02T11:59:59Z", mark: "year,zone", rest: " host"},
		{in: "Mar  3 11:59:59 host", want: "2026-03-03T11:59:59Z", mark: "year,zone", rest: " host"},
		{in: "Mar  4 11:59:59 host", want: "2025-03-04T11:59:59Z", mark: "year,zone", rest: " host"},
		{in: "Feb 29 10:00:00", want: "2024-02-29T10:00:00Z", mark: "year,zone"},
		{in: "Nov 24 2026 03:02:11 x", want: "2026-11-24T03:02:11Z", mark: "zone", rest: " x"},
		// A number after the clock that is no year.
		{in: "Nov 24 03:02:11 4711 x", want: "2025-11-24T03:02:11Z", mark: "year,zone", rest: " 4711 x"},
		{in: "11:02:11.5 x", want: "2026-03-02T11:02:11.5Z", mark: "date,zone", rest: " x"},
		{in: "13:02:11 x", want: "2026-03-01T13:02:11Z", mark: "date,zone", rest: " x"},
		// Zones of the place: winter, summer.
		{in: "2026-01-24 03:02:11", zone: berlin, want: "2026-01-24T02:02:11Z", mark: "zone"},
		{in: "2026-07-24 03:02:11", zone: berlin, want: "2026-07-24T01:02:11Z", mark: "zone"},
		{in: "1900-01-01T00:00:00Z", want: "1900-01-01T00:00:00Z"},
		{in: "2200-12-31T23:59:59Z", want: "2200-12-31T23:59:59Z"},
		{in: "2016-12-31T23:59:60Z", want: "2017-01-01T00:00:00Z"},
		{in: "1600-01-01T00:00:00Z"},
		{in: "2026-02-30T00:00:00Z"},
		{in: "2026-13-01T00:00:00Z"},
		{in: "2026-11-24T25:00:00Z"},
		{in: "2026-11-24T03:02:11x"},
		{in: "2026-11-24"},
		{in: "[2026-11-24 03:02:11"},
		{in: "March comes"},
		{in: "10.0.0.1 - - [x]"},
		{in: "12"},
		{in: ""},
	} {
		r := timestamp.Resolver{Latest: latest, Zone: c.zone}
		got, m, n, ok := r.Prefix(c.in)
		if !ok {
			if c.want != "" {
				t.Errorf("%q was not read", c.in)
			}
			continue
		}
		if s := time.Unix(0, got).UTC().Format(time.RFC3339Nano); s != c.want || m.String() != c.mark || c.in[n:] != c.rest {
			t.Errorf("%q: %s %q rest %q, want %s %q %q", c.in, s, m, c.in[n:], c.want, c.mark, c.rest)
		}
	}
}

func TestEpoch(t *testing.T) {
	want := time.Date(2026, 11, 24, 3, 2, 11, 204000000, time.UTC).UnixNano()
	for _, s := range []string{"1795489331.204", "1795489331204", "1795489331204000", "1795489331204000000"} {
		if got, ok := timestamp.Epoch(s); !ok || got != want {
			t.Errorf("%s: %d %v, want %d", s, got, ok, want)
		}
	}
	for _, s := range []string{"", "12", "17954893x1", "179548933120400000000", "-1795489331", "1795489331.2x"} {
		if got, ok := timestamp.Epoch(s); ok {
			t.Errorf("%q was read as %d", s, got)
		}
	}
	if got, ok := timestamp.EpochFloat(1795489331.204); !ok || got != want {
		t.Errorf("float: %d %v, want %d", got, ok, want)
	}
}

// The fast path agrees with the standard library on whatever both take.
func FuzzRFC3339(f *testing.F) {
	for _, s := range []string{"2026-11-24T03:02:11.204Z", "1900-02-28T23:59:59+14:00", "2200-01-01T00:00:00-00:01", "2024-02-29T12:00:00.123456789Z", "2026-11-24T0:02:11.204Z"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r := timestamp.Resolver{Latest: time.Unix(1795489331, 0)}
		if _, _, n, ok := r.Prefix(s); ok && (n <= 0 || n > len(s)) {
			t.Fatalf("%q: %d bytes of it", s, n)
		}
		timestamp.Epoch(s)
		want, err := time.Parse(time.RFC3339Nano, s)
		if err != nil || want.Year() < 1679 || want.Year() > 2260 {
			return
		}
		if s[13] != ':' {
			return // an hour of one digit, which RFC 3339 has not and the library takes
		}
		got, ok := timestamp.RFC3339(s)
		if ok && got != want.UnixNano() {
			t.Fatalf("%q: %d, the standard library has %d", s, got, want.UnixNano())
		}
		if _, off := want.Zone(); !ok && off > -18*3600 && off < 18*3600 {
			t.Fatalf("%q was not read", s)
		}
	})
}

func BenchmarkRFC3339(b *testing.B) {
	for b.Loop() {
		timestamp.RFC3339("2026-11-24T03:02:11.204123456Z")
	}
}

func BenchmarkPrefix(b *testing.B) {
	r := timestamp.Resolver{Latest: time.Unix(1795489331, 0)}
	for b.Loop() {
		r.Prefix("Nov 24 03:02:11 host sshd[4711]: Accepted")
	}
}
