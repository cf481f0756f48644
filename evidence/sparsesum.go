package evidence

import "hash"

// sparseSum hashes stored bytes as the content they stand for: with its holes, unless the entry's hash is of the data alone.
type sparseSum struct {
	hash.Hash
	entry *Entry
	next  int   // extent
	rest  int64 // of the extent before next
	pos   int64 // in the content
}

func (s *sparseSum) add(b []byte) {
	if s.entry.Sparse == nil || s.entry.HashOf != "" {
		s.Write(b)
		return
	}
	for len(b) > 0 {
		for s.rest == 0 && s.next < len(s.entry.Sparse) {
			x := s.entry.Sparse[s.next]
			s.next++
			hashZeros(s.Hash, x.Offset-s.pos)
			s.pos, s.rest = x.Offset, x.Length
		}
		n := min(int64(len(b)), s.rest)
		if n == 0 {
			return // more than the map has room for: the caller has checked that this can't be
		}
		s.Write(b[:n])
		b = b[n:]
		s.pos += n
		s.rest -= n
	}
}

// finish hashes the hole that ends the file.
func (s *sparseSum) finish() {
	if s.entry.Sparse != nil && s.entry.HashOf == "" {
		hashZeros(s.Hash, s.entry.Size-s.pos)
	}
}
