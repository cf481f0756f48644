package sigma

// automaton finds all of many texts in one pass (Aho and Corasick, 1975). Each state has its next state for each class of bytes written out,
// so that a byte of the text costs one look-up, whatever the number of texts; overlapping texts are all found.
type automaton struct {
	class   [256]uint8
	classes int
	next    []int32   // state*classes + class
	found   [][]int32 // of each state, the texts that end there
}

// newAutomaton builds it; texts are not empty. The table takes 4 bytes for each state and class: at most one state for each byte of the texts.
func newAutomaton(texts []string) *automaton {
	a := &automaton{classes: 1} // class 0 is of all bytes that no text has
	for _, t := range texts {
		for i := range len(t) {
			if c := &a.class[t[i]]; *c == 0 && a.classes < 256 {
				*c = uint8(a.classes)
				a.classes++
			}
		}
	}
	a.state()
	for n, t := range texts {
		s := int32(0)
		for i := range len(t) {
			at := int(s)*a.classes + int(a.class[t[i]])
			if a.next[at] == 0 {
				made := a.state() // it may move the table
				a.next[at] = made
			}
			s = a.next[at]
		}
		a.found[s] = append(a.found[s], int32(n))
	}
	a.link()
	return a
}

func (a *automaton) state() int32 {
	a.next = append(a.next, make([]int32, a.classes)...)
	a.found = append(a.found, nil)
	return int32(len(a.found) - 1)
}

// link fills in, breadth first, where to go on when a text breaks off.
func (a *automaton) link() {
	fail := make([]int32, len(a.found))
	var queue []int32
	for c := range a.classes {
		if s := a.next[c]; s != 0 {
			queue = append(queue, s)
		}
	}
	for len(queue) > 0 {
		s := queue[0]
		queue = queue[1:]
		row, back := int(s)*a.classes, int(fail[s])*a.classes
		a.found[s] = append(a.found[s], a.found[fail[s]]...)
		for c := range a.classes {
			if t := a.next[row+c]; t != 0 {
				fail[t] = a.next[back+c]
				queue = append(queue, t)
			} else {
				a.next[row+c] = a.next[back+c]
			}
		}
	}
}

// find calls hit for each text at each place where it ends.
func (a *automaton) find(b []byte, hit func(text int32)) {
	s := int32(0)
	for _, c := range b {
		s = a.next[int(s)*a.classes+int(a.class[c])]
		for _, t := range a.found[s] {
			hit(t)
		}
	}
}
