package indicator

// filter says of most names that they are no listed domain's and below none, without making a string of them: it has two bits for each
// listed domain, in 2 MiB whatever their number. A million domains leave one name in seventy to the map.
type filter [1 << 18]uint64

// step carries a name's hash on by one byte, from the name's end to its start, so that one pass gives the hash of each domain above.
func step(h uint64, c byte) uint64 {
	if c >= 'A' && c <= 'Z' {
		c |= 0x20
	}
	return (h ^ uint64(c)) * 0x100000001b3 // FNV-1a
}

const seed = 0xcbf29ce484222325

// bits are the two places of a hash.
func bits(h uint64) (a, b uint64) {
	h ^= h >> 29
	h *= 0xbf58476d1ce4e5b9
	return h >> 40, h >> 16 & 0xffffff
}

func (f *filter) add(name string) {
	h := uint64(seed)
	for i := len(name) - 1; i >= 0; i-- {
		h = step(h, name[i])
	}
	a, b := bits(h)
	f[a>>6] |= 1 << (a & 63)
	f[b>>6] |= 1 << (b & 63)
}

// may reports whether name or a domain above it can be listed.
func (f *filter) may(name []byte) bool {
	h := uint64(seed)
	for i := len(name) - 1; i >= 0; i-- {
		h = step(h, name[i])
		if i > 0 && name[i-1] != '.' {
			continue
		}
		a, b := bits(h)
		if f[a>>6]&(1<<(a&63)) != 0 && f[b>>6]&(1<<(b&63)) != 0 {
			return true
		}
	}
	return false
}
