package journal

// index goes along the chain of arrays that list the entries. Arrays and entries only ever get appended: whatever goes back is damage, or a trap.
type index struct {
	f      *file
	array  int64 // the one that is read, or the next
	width  int64 // bytes of an item
	item   int64 // where the next item stands
	end    int64 // where the array's items end
	next   int64 // the next entry; unlimited when there is none
	broken bool  // the chain could not be followed to its end: what is not in it may have been
	empty  bool  // there is none
}

const unlimited = 1 << 62

func (x *index) start() {
	if x.array == 0 {
		x.empty, x.next = true, unlimited
		return
	}
	x.enter()
	x.advance()
}

// enter begins with the array at x.array.
func (x *index) enter() {
	o, ok := x.f.object(x.array)
	if !ok || o.kind != typeArray {
		x.stop("the index of entries breaks off")
		return
	}
	x.item, x.end = o.at+arrayHeader, o.at+o.size
}

func (x *index) stop(why string) {
	x.f.in.Skip(min(x.array, x.f.p.size), 0, why)
	x.broken, x.next, x.item, x.end, x.array = true, unlimited, 0, 0, 0
}

// advance finds the next entry.
func (x *index) advance() {
	last := x.next
	for !x.broken {
		if x.item+x.width > x.end {
			var b [8]byte
			x.f.p.read(b[:], x.array+objectHeader)
			following := int64(min(le.Uint64(b[:]), unlimited))
			if following == 0 {
				x.next = unlimited
				return
			}
			if following < x.end || following <= x.array {
				x.stop("the index of entries goes back, or in a circle")
				return
			}
			x.array = following
			x.enter()
			continue
		}
		var b [8]byte
		x.f.p.read(b[:x.width], x.item)
		x.item += x.width
		at := int64(min(le.Uint64(b[:]), unlimited))
		if at == 0 || at == unlimited {
			continue // not used yet
		}
		if at <= last {
			x.f.in.Skip(x.item-x.width, x.width, "the index of entries goes back")
			continue
		}
		x.next = at
		return
	}
}

// take reports whether the index has the entry at an offset, or can't say that it has not.
func (x *index) take(at int64) bool {
	if x.next == at {
		x.advance()
		return true
	}
	return x.broken || x.empty
}
