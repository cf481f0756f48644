package journal

import (
	"errors"
	"io"
)

const (
	pageSize = 64 << 10
	maxPages = 64
)

// pages reads at random and keeps what was read last: fields that many entries share lie all over the file.
type pages struct {
	r      io.ReaderAt
	size   int64
	page   [maxPages][]byte // by number modulo maxPages
	number [maxPages]int64  // plus one; 0 is none
	err    error            // of the evidence
}

// at gives what a page has from offset on; it is valid until another page is read.
func (p *pages) at(offset int64) []byte {
	if offset < 0 || offset >= p.size || p.err != nil {
		return nil
	}
	n := offset / pageSize
	i := n % maxPages
	if p.number[i] != n+1 {
		if p.page[i] == nil {
			p.page[i] = make([]byte, pageSize)
		}
		want := min(pageSize, p.size-n*pageSize)
		b := p.page[i][:want]
		m, err := p.r.ReadAt(b, n*pageSize)
		if int64(m) < want {
			p.number[i] = 0
			if err == nil || errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			p.err = err
			return nil
		}
		p.page[i], p.number[i] = b, n+1
	}
	return p.page[i][offset-n*pageSize:]
}

// read fills b from offset on and says how much there was.
func (p *pages) read(b []byte, offset int64) int {
	n := 0
	for n < len(b) {
		from := p.at(offset + int64(n))
		if len(from) == 0 {
			break
		}
		n += copy(b[n:], from)
	}
	return n
}
