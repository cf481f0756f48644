package evidence

import (
	"errors"
	"fmt"
	"io"
)

// content is what a fill function writes to: memory of its own, or the frames. It takes exactly as many bytes as were
// announced, and remembers what went otherwise.
type content struct {
	left   int64
	excess bool
	fatal  error

	mem []byte // when p is nil
	p   *pipeline

	// A sparse file whose holes are hashed too.
	extents []Extent
	size    int64
	rest    int64 // of the current extent
	end     int64 // of the current extent
}

// room is how many bytes may be appended before the next hole, which is hashed on the way.
func (c *content) room() int64 {
	if c.extents == nil {
		return c.left
	}
	for c.rest == 0 && len(c.extents) > 0 {
		x := c.extents[0]
		c.extents = c.extents[1:]
		if x.Offset > c.end {
			c.p.hole(x.Offset - c.end)
		}
		c.rest, c.end = x.Length, x.Offset+x.Length
	}
	return min(c.left, c.rest)
}

// tail hashes the hole that ends the file.
func (c *content) tail() {
	if c.size > c.end && c.fatal == nil {
		c.p.hole(c.size - c.end)
	}
}

func (c *content) took(n int64) {
	c.left -= n
	if c.rest > 0 {
		c.rest -= n
	}
}

// Write takes b; what is more than announced is dropped and noted. It fails only when the output has failed.
func (c *content) Write(b []byte) (int, error) {
	all := len(b)
	if int64(len(b)) > c.left {
		c.excess = true
		b = b[:c.left]
	}
	for len(b) > 0 {
		if c.p == nil {
			c.mem = append(c.mem, b...)
			c.left -= int64(len(b))
			break
		}
		if c.fatal = c.p.Err(); c.fatal != nil {
			return 0, c.fatal
		}
		n := min(int64(len(b)), c.room())
		k := copy(c.p.space(), b[:n])
		c.p.advance(k)
		c.took(int64(k))
		b = b[k:]
	}
	return all, nil
}

// ReadFrom reads straight into the frame's buffer, up to the announced size; it is how io.Copy spares a copy.
func (c *content) ReadFrom(r io.Reader) (int64, error) {
	total := int64(0)
	for idle := 0; c.left > 0; {
		buf := c.mem[len(c.mem):cap(c.mem)]
		if c.p != nil {
			if c.fatal = c.p.Err(); c.fatal != nil {
				return total, c.fatal
			}
			n := c.room()
			buf = c.p.space()
			buf = buf[:min(int64(len(buf)), n)]
		}
		buf = buf[:min(int64(len(buf)), c.left)]
		n, err := r.Read(buf)
		if n < 0 || n > len(buf) {
			return total, fmt.Errorf("a reader gave %d bytes into a buffer of %d", n, len(buf))
		}
		if c.p != nil && n > 0 {
			c.p.advance(n)
			c.took(int64(n))
		} else if n > 0 {
			c.mem = c.mem[:len(c.mem)+n]
			c.left -= int64(n)
		}
		total += int64(n)
		switch {
		case errors.Is(err, io.EOF):
			return total, nil
		case err != nil:
			return total, err
		case n > 0:
			idle = 0
		default:
			if idle++; idle > 100 {
				return total, io.ErrNoProgress
			}
		}
	}
	// One byte more tells that the source has grown; the rest of it is not read.
	var one [1]byte
	if n, _ := r.Read(one[:]); n > 0 {
		c.excess = true
	}
	return total, nil
}

// notes says what went otherwise than announced; err is fill's.
func (c *content) notes(err error) (out []string) {
	if err != nil && c.fatal == nil {
		out = append(out, err.Error())
	}
	if c.left > 0 {
		out = append(out, fmt.Sprintf("the last %d bytes could not be read: they are zeros here", c.left))
	}
	if c.excess {
		out = append(out, "it was longer when it was read: the rest was cut")
	}
	return out
}
