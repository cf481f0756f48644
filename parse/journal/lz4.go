package journal

// unLZ4 expands an LZ4 block (https://github.com/lz4/lz4/blob/dev/doc/lz4_Block_format.md) until room bytes are there, the source ends or is damaged; ok is false only in
// the last case. Libraries expand blocks as a whole into memory of the size that the file claims; here only the beginning is wanted.
func unLZ4(src []byte, room int) (out []byte, ok bool) {
	out = make([]byte, 0, min(room, 4*len(src)+64))
	for len(src) > 0 {
		token := src[0]
		src = src[1:]
		n, rest, ok := lz4Length(int(token>>4), src)
		if !ok {
			return out, false
		}
		src = rest
		if left := room - len(out); n >= left {
			return append(out, src[:min(left, len(src))]...), len(src) >= left
		}
		if n > len(src) {
			return append(out, src...), false
		}
		out = append(out, src[:n]...)
		if src = src[n:]; len(src) == 0 {
			return out, true // the last sequence has no match
		}
		if len(src) < 2 {
			return out, false
		}
		back := int(le.Uint16(src))
		n, src, ok = lz4Length(int(token&15), src[2:])
		if !ok || back == 0 || back > len(out) {
			return out, false
		}
		for n += 4; n > 0 && len(out) < room; n-- {
			out = append(out, out[len(out)-back])
		}
		if len(out) >= room {
			return out, true
		}
	}
	return out, false
}

// lz4Length is a length that begins with n: while a byte is 255, another follows.
func lz4Length(n int, src []byte) (int, []byte, bool) {
	if n < 15 {
		return n, src, true
	}
	for len(src) > 0 {
		c := int(src[0])
		src = src[1:]
		if n += c; c < 255 {
			return n, src, true
		}
	}
	return n, src, false
}
