package sigma

import (
	"bytes"
	"strconv"
	"strings"
	"unicode/utf16"
)

// unescape gives a text of JSON with its escapes resolved, wherever they stand: each string in it then stands there as it is. It is empty
// where there are no escapes.
func unescape(b []byte) string {
	if bytes.IndexByte(b, '\\') < 0 {
		return ""
	}
	var out strings.Builder
	out.Grow(len(b))
	for i := 0; i < len(b); i++ {
		if b[i] != '\\' || i+1 == len(b) {
			out.WriteByte(b[i])
			continue
		}
		i++
		switch b[i] {
		case 'n':
			out.WriteByte('\n')
		case 't':
			out.WriteByte('\t')
		case 'r':
			out.WriteByte('\r')
		case 'b':
			out.WriteByte('\b')
		case 'f':
			out.WriteByte('\f')
		case 'u':
			r, ok := unit16(b[i+1:])
			if !ok {
				break
			}
			i += 4
			if utf16.IsSurrogate(r) && i+2 < len(b) && b[i+1] == '\\' && b[i+2] == 'u' {
				if low, ok := unit16(b[i+3:]); ok {
					if both := utf16.DecodeRune(r, low); both != '�' {
						r = both
						i += 6
					}
				}
			}
			out.WriteRune(r)
		default:
			out.WriteByte(b[i])
		}
	}
	return out.String()
}

func unit16(b []byte) (rune, bool) {
	if len(b) < 4 {
		return 0, false
	}
	n, err := strconv.ParseUint(string(b[:4]), 16, 16)
	return rune(n), err == nil
}
