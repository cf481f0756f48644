package journal

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// built is a small journal file and where its objects stand.
type built struct {
	b       []byte
	compact bool
	entries []int
	data    map[string]int
	sums    map[int]uint64 // of fields, by offset
	array   int
}

func (f *built) put(kind, flags byte, body []byte) int {
	at := len(f.b)
	h := make([]byte, objectHeader)
	h[0], h[1] = kind, flags
	le.PutUint64(h[8:], uint64(objectHeader+len(body)))
	f.b = append(append(f.b, h...), body...)
	for len(f.b)%8 != 0 {
		f.b = append(f.b, 0)
	}
	le.PutUint64(f.b[136:], uint64(at))
	return at
}

// field writes a field, compressed as flags say.
func (f *built) field(text string, flags byte) int {
	if at, ok := f.data[text]; ok {
		return at
	}
	payload := []byte(text)
	if flags == flagZstd {
		z, _ := zstd.NewWriter(nil)
		payload = z.EncodeAll(payload, nil)
	}
	n := 48
	if f.compact {
		n = 56
	}
	at := f.put(typeData, flags, append(make([]byte, n), payload...))
	f.data[text] = at
	le.PutUint64(f.b[at+16:], jenkins([]byte(text)))
	f.sums[at] = jenkins([]byte(text))
	return at
}

func (f *built) width() int {
	if f.compact {
		return 4
	}
	return 8
}

func (f *built) offset(b []byte, at int) []byte {
	if f.compact {
		return le.AppendUint32(b, uint32(at))
	}
	return le.AppendUint64(b, uint64(at))
}

// entry writes an entry of fields that stand at these offsets, and lists it.
func (f *built) entry(at ...int) int {
	body := make([]byte, entryHeader-objectHeader)
	le.PutUint64(body, uint64(len(f.entries)+1))
	le.PutUint64(body[8:], 1795478400000000+uint64(len(f.entries))*1e6)
	sum := uint64(0)
	for _, a := range at {
		sum ^= f.sums[a]
		body = f.offset(body, a)
		if !f.compact {
			body = append(body, make([]byte, 8)...)
		}
	}
	le.PutUint64(body[40:], sum)
	o := f.put(typeEntry, 0, body)
	f.list(len(f.entries), o)
	f.entries = append(f.entries, o)
	return o
}

func (f *built) list(i, at int) { copy(f.b[f.array+arrayHeader+i*f.width():], f.offset(nil, at)) }

// create begins a file whose index has room for n entries.
func create(compact bool, n int) *built {
	f := &built{b: make([]byte, 272), compact: compact, data: map[string]int{}, sums: map[int]uint64{}}
	copy(f.b, signature)
	if compact {
		le.PutUint32(f.b[12:], flagCompact)
	}
	f.b[16] = 1 // online
	le.PutUint64(f.b[88:], 272)
	f.put(typeDataTable, 0, make([]byte, 64))
	f.put(typeField, 0, append(make([]byte, 24), "MESSAGE"...))
	f.array = f.put(typeArray, 0, make([]byte, 8+n*f.width()))
	le.PutUint64(f.b[176:], uint64(f.array))
	return f
}

// small is a file of three entries, some of their fields shared.
func small(compact bool) *built {
	f := create(compact, 8)
	for _, m := range []string{"one", "two", "three"} {
		f.entry(f.field("MESSAGE="+m, 0), f.field("_COMM=app", 0), f.field("_PID=7", 0))
	}
	return f
}

var lz4Text = "MESSAGE=expanded from LZ4: " + strings.Repeat("abcdefghij", 60) + " the end"

// lz4Hex is a message of 635 bytes as python-lz4 4.4.5 packs it, with no size before it.
const lz4Hex = "ff164d4553534147453d657870616e6465642066726f6d204c5a343a206162636465666768696a0a00ffff3d802074686520656e64"

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// compressed has one message in each way of compression.
func compressed(t testing.TB, compact bool) *built {
	t.Helper()
	f := create(compact, 8)
	f.entry(f.field("MESSAGE="+string(bytes.Repeat([]byte("long "), 10_000)), flagZstd))
	lz4 := f.field(string(append(le.AppendUint64(nil, 635), unhex(t, lz4Hex)...)), flagLZ4)
	f.sums[lz4] = jenkins([]byte(lz4Text))
	le.PutUint64(f.b[lz4+16:], f.sums[lz4])
	f.entry(lz4)
	f.entry(f.field("\xfd7zXZ\x00 and so on", flagXZ), f.field("_COMM=app", 0))
	return f
}
