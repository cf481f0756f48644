package evidence

import "math"

// alignExtents widens extents to the block boundaries of tar, where each must begin and end (the last may end with the file), and
// joins those that come to touch. Extents of file systems are aligned as they are; this is for those of other origin.
func alignExtents(x []Extent, size int64) []Extent {
	out := make([]Extent, 0, len(x))
	for _, e := range x {
		if e.Length == 0 {
			continue
		}
		from := e.Offset &^ (blockSize - 1)
		to := min(e.Offset+e.Length+padding(e.Offset+e.Length), size)
		if n := len(out); n > 0 && out[n-1].Offset+out[n-1].Length >= from {
			out[n-1].Length = to - out[n-1].Offset
			continue
		}
		out = append(out, Extent{from, to - from})
	}
	return out
}

// spread puts the bytes of the given extents where they belong in the aligned ones, with zeros between.
type spread struct {
	c              *content
	given, aligned []Extent
	pos            int64 // in the file: up to where the aligned extents are written
	done           int64 // of given[0]
}

// Write takes the next bytes of the given extents.
func (s *spread) Write(b []byte) (int, error) {
	all := len(b)
	for len(b) > 0 {
		for len(s.given) > 0 && s.done == s.given[0].Length {
			s.given, s.done = s.given[1:], 0
		}
		if len(s.given) == 0 {
			s.c.excess = true
			break
		}
		x := s.given[0]
		if err := s.zeros(x.Offset + s.done); err != nil {
			return all - len(b), err
		}
		n := min(int64(len(b)), x.Length-s.done)
		if _, err := s.c.Write(b[:n]); err != nil {
			return all - len(b), err
		}
		s.pos += n
		s.done += n
		b = b[n:]
	}
	return all, nil
}

// zeros writes the aligned extents up to a place in the file.
func (s *spread) zeros(to int64) error {
	for len(s.aligned) > 0 {
		x := s.aligned[0]
		s.pos = max(s.pos, x.Offset)
		for end := min(to, x.Offset+x.Length); s.pos < end; {
			n := min(end-s.pos, int64(len(manyZeros)))
			if _, err := s.c.Write(manyZeros[:n]); err != nil {
				return err
			}
			s.pos += n
		}
		if to < x.Offset+x.Length {
			return nil
		}
		s.aligned = s.aligned[1:]
	}
	return nil
}

// finish writes the zeros behind the last given byte, unless bytes are missing: then what is left counts as missing.
func (s *spread) finish() {
	for len(s.given) > 0 && s.done == s.given[0].Length {
		s.given, s.done = s.given[1:], 0
	}
	if len(s.given) == 0 {
		_ = s.zeros(math.MaxInt64) // the output's error stays with the pipeline
	}
}
