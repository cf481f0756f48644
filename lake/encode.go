package lake

import (
	"encoding/binary"

	"github.com/parquet-go/parquet-go"
)

// encoder turns sorted buffers into row groups and their text index.
type encoder struct {
	grams  []*grams // of the blocks of a group
	values []parquet.Value
	// where the columns are in the schema
	row     int
	texts   []int
	numbers []int
}

func newEncoder() *encoder {
	s := schema()
	at := func(name string) int {
		c, _ := s.Lookup(name) // all come from the same lists
		return c.ColumnIndex
	}
	e := &encoder{row: at("row"), values: make([]parquet.Value, blockRows)}
	for range groupRows / blockRows {
		e.grams = append(e.grams, newGrams())
	}
	for _, c := range texts {
		e.texts = append(e.texts, at(c.name))
	}
	for _, c := range numbers {
		e.numbers = append(e.numbers, at(c.name))
	}
	return e
}

// encode writes the rows of b, in order, to row groups of at most groupRows. Of the groups the place in the index is relative to text.
func (e *encoder) encode(b *buffer, out []*parquet.ConcurrentRowGroupWriter) (groups []Group, text []byte, err error) {
	for i, rg := range out {
		order := b.order[i*groupRows : min((i+1)*groupRows, b.n)]
		times := b.numbers[0]
		g := Group{Row: b.first + int64(i*groupRows), Rows: int64(len(order)), Min: times[order[0]], Max: times[order[len(order)-1]]}
		for _, r := range order {
			if times[r] != 0 {
				g.first = times[r]
				break
			}
		}
		if err := e.group(b, order, g.Row, rg.ColumnWriters()); err != nil {
			return nil, nil, err
		}
		if err := rg.Flush(); err != nil {
			return nil, nil, err
		}
		g.Text = int64(len(text))
		for _, s := range e.grams[:(len(order)+blockRows-1)/blockRows] {
			long, width := s.folded()
			g.Widths = append(g.Widths, width)
			for _, set := range [][]uint64{s.short, long} {
				for _, v := range set {
					text = binary.LittleEndian.AppendUint64(text, v)
				}
			}
		}
		groups = append(groups, g)
	}
	return groups, text, nil
}

func (e *encoder) group(b *buffer, order []int32, first int64, cols []*parquet.ColumnWriter) error {
	write := func(col int, n int, value func(i int) parquet.Value) error {
		for from := 0; from < n; {
			to := min(from+len(e.values), n)
			for i := from; i < to; i++ {
				e.values[i-from] = value(i)
			}
			if _, err := cols[col].WriteRowValues(e.values[:to-from]); err != nil {
				return err
			}
			from = to
		}
		return nil
	}
	if err := write(e.row, len(order), func(i int) parquet.Value { return parquet.Int64Value(first + int64(i)) }); err != nil {
		return err
	}
	for c, col := range e.numbers {
		v := b.numbers[c]
		if err := write(col, len(order), func(i int) parquet.Value { return parquet.Int64Value(v[order[i]]) }); err != nil {
			return err
		}
	}
	for _, s := range e.grams {
		s.reset()
	}
	for c, col := range e.texts {
		a := &b.texts[c]
		plain := texts[c].plain
		err := write(col, len(order), func(i int) parquet.Value {
			s := a.at(int(order[i]))
			if len(s) > 2 {
				if set := e.grams[i/blockRows]; plain || !set.repeated(s) {
					set.add(s)
				}
			}
			return parquet.ByteArrayValue(s)
		})
		if err != nil {
			return err
		}
	}
	return nil
}
