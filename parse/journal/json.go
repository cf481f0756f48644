package journal

import (
	"context"

	"github.com/sherd-forensics/sherd/parse"
	"github.com/sherd-forensics/sherd/parse/internal/jsonrecords"
)

// isJSON: these names stand together in nothing else.
func isJSON(root jsonrecords.Node) bool {
	return root.Get("__REALTIME_TIMESTAMP").Exists() && (root.Get("__CURSOR").Exists() || root.Get("_BOOT_ID").Exists() || root.Get("__MONOTONIC_TIMESTAMP").Exists())
}

func readJSON(ctx context.Context, in *parse.Input, emit parse.Emit) error {
	w := newWriter(in, emit)
	var fields []field
	err := jsonrecords.Read(ctx, in, jsonrecords.Options{}, func(rec jsonrecords.Record, root jsonrecords.Node) (bool, error) {
		// A record that is cut may have lost its time.
		if !root.Get("__REALTIME_TIMESTAMP").Exists() && !root.Get("__CURSOR").Exists() && !root.Get("MESSAGE").Exists() {
			return false, nil
		}
		e := entry{offset: rec.Offset, length: rec.Length, cut: rec.Cut, fields: fields[:0]}
		kept := 0
		root.Each(func(name string, v jsonrecords.Node) bool {
			if v.Type() == jsonrecords.Null { // journalctl leaves long values out unless it is told --all
				e.unread++
				return true
			}
			f, more := value(name, v)
			e.left += more
			if kept += len(f.value); len(e.fields) >= maxFields || kept > maxEntry || len(name) > maxName {
				e.left++
				return true
			}
			e.fields = append(e.fields, f)
			return true
		})
		fields = e.fields
		if t := micros(e.get("__REALTIME_TIMESTAMP")); t > 0 {
			e.realtime = uint64(t / 1000)
		}
		return true, w.write(&e)
	})
	if err != nil {
		return err
	}
	return w.end()
}

// value is a field's: a text, bytes as an array of numbers, or an array of several values, of which the first is taken; more counts the others.
func value(name string, v jsonrecords.Node) (f field, more int) {
	f.name = name
	if v.Type() == jsonrecords.Array {
		first := v.At(0)
		if first.Type() == jsonrecords.Number {
			f.value, f.cut = octets(v, limit(name))
			return f, 0
		}
		more = max(0, v.Len()-1)
		if v = first; v.Type() == jsonrecords.Array {
			f.value, f.cut = octets(v, limit(name))
			return f, more
		}
	}
	switch v.Type() {
	case jsonrecords.String:
		f.value = v.Text()
	case jsonrecords.Missing, jsonrecords.Null:
	default:
		f.value = string(v.Append(nil, maxValue))
	}
	if n := limit(name); len(f.value) > n {
		f.value, f.cut = f.value[:n], true
	}
	return f, more
}

// octets is an array of numbers as the bytes that they stand for.
func octets(v jsonrecords.Node, limit int) (s string, cut bool) {
	var b []byte
	v.Each(func(_ string, n jsonrecords.Node) bool {
		if len(b) >= limit {
			cut = true
			return false
		}
		b = append(b, byte(n.Whole()))
		return true
	})
	return string(b), cut
}
