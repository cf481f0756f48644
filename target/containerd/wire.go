package containerd

import (
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// The messages of containerd's API that are read here, with the numbers of their fields as
// https://github.com/containerd/containerd/tree/main/api defines them. They are decoded by hand: the generated code
// brings gRPC's own library along, 7 MiB in a program that may have 15.

type anyValue struct {
	typeURL string // 1
	value   []byte // 2
}

type containerRecord struct {
	id          string              // 1
	labels      map[string]string   // 2
	image       string              // 3
	runtime     string              // 4.1
	spec        anyValue            // 5
	snapshotter string              // 6
	snapshotKey string              // 7
	created     time.Time           // 8
	extensions  map[string]anyValue // 10
	sandbox     string              // 11
}

// taskRecord is containerd.v1.types.Process.
type taskRecord struct {
	containerID string    // 1
	id          string    // 2
	pid         int       // 3
	status      int       // 4
	stdout      string    // 6
	exitStatus  int       // 9
	exited      time.Time // 10
}

// Values of taskRecord.status.
const (
	taskCreated = 1
	taskRunning = 2
	taskStopped = 3
	taskPaused  = 4
	taskPausing = 5
)

type mountRecord struct {
	kind    string   // 1
	source  string   // 2
	target  string   // 3
	options []string // 4
}

type snapshotInfo struct {
	name   string // 1
	parent string // 2
}

type descriptor struct {
	mediaType string // 1
	digest    string // 2
	size      int64  // 3
}

// protoNumber is the number of a field.
type protoNumber = protowire.Number

var errMalformed = errors.New("malformed message")

// fields calls fn for each field of a message: n for numbers, b for bytes. Other wire types are skipped.
func fields(msg []byte, fn func(num protowire.Number, n uint64, b []byte) error) error {
	for len(msg) > 0 {
		num, typ, size := protowire.ConsumeTag(msg)
		if size < 0 {
			return fmt.Errorf("%w: %w", errMalformed, protowire.ParseError(size))
		}
		msg = msg[size:]
		var n uint64
		var b []byte
		switch typ {
		case protowire.VarintType:
			n, size = protowire.ConsumeVarint(msg)
		case protowire.BytesType:
			b, size = protowire.ConsumeBytes(msg)
		default:
			if size = protowire.ConsumeFieldValue(num, typ, msg); size >= 0 {
				msg = msg[size:]
				continue
			}
		}
		if size < 0 {
			return fmt.Errorf("%w: %w", errMalformed, protowire.ParseError(size))
		}
		msg = msg[size:]
		if err := fn(num, n, b); err != nil {
			return err
		}
	}
	return nil
}

func decodeTime(msg []byte) (time.Time, error) {
	var sec, nano int64
	err := fields(msg, func(num protowire.Number, n uint64, _ []byte) error {
		switch num {
		case 1:
			sec = int64(n) //nolint:gosec // int64 on the wire
		case 2:
			nano = int64(int32(n)) //nolint:gosec // int32 on the wire
		}
		return nil
	})
	if err != nil || sec <= 0 {
		return time.Time{}, err
	}
	return time.Unix(sec, nano).UTC(), nil
}

func decodeAny(msg []byte) (a anyValue, err error) {
	err = fields(msg, func(num protowire.Number, _ uint64, b []byte) error {
		switch num {
		case 1:
			a.typeURL = string(b)
		case 2:
			a.value = b
		}
		return nil
	})
	return a, err
}

// decodeEntry reads one entry of a map: key 1, value 2.
func decodeEntry(msg []byte) (key string, value []byte, err error) {
	err = fields(msg, func(num protowire.Number, _ uint64, b []byte) error {
		switch num {
		case 1:
			key = string(b)
		case 2:
			value = b
		}
		return nil
	})
	return key, value, err
}

// put adds an entry to a map of strings.
func put(m *map[string]string, msg []byte) error {
	k, v, err := decodeEntry(msg)
	if err != nil {
		return err
	}
	if *m == nil {
		*m = map[string]string{}
	}
	(*m)[k] = string(v)
	return nil
}

func decodeContainer(msg []byte) (c containerRecord, err error) {
	err = fields(msg, func(num protowire.Number, _ uint64, b []byte) (err error) {
		switch num {
		case 1:
			c.id = string(b)
		case 2:
			return put(&c.labels, b)
		case 3:
			c.image = string(b)
		case 4:
			c.runtime, _, err = decodeEntry(b)
		case 5:
			c.spec, err = decodeAny(b)
		case 6:
			c.snapshotter = string(b)
		case 7:
			c.snapshotKey = string(b)
		case 8:
			c.created, err = decodeTime(b)
		case 10:
			k, v, err := decodeEntry(b)
			if err != nil {
				return err
			}
			a, err := decodeAny(v)
			if err != nil {
				return err
			}
			if c.extensions == nil {
				c.extensions = map[string]anyValue{}
			}
			c.extensions[k] = a
		case 11:
			c.sandbox = string(b)
		}
		return err
	})
	return c, err
}

func decodeTask(msg []byte) (t taskRecord, err error) {
	err = fields(msg, func(num protowire.Number, n uint64, b []byte) (err error) {
		switch num {
		case 1:
			t.containerID = string(b)
		case 2:
			t.id = string(b)
		case 3:
			t.pid = int(uint32(n)) //nolint:gosec // uint32 on the wire
		case 4:
			t.status = int(int32(n)) //nolint:gosec // an enum
		case 6:
			t.stdout = string(b)
		case 9:
			t.exitStatus = int(uint32(n)) //nolint:gosec // uint32 on the wire
		case 10:
			t.exited, err = decodeTime(b)
		}
		return err
	})
	return t, err
}

func decodeMount(msg []byte) (m mountRecord, err error) {
	err = fields(msg, func(num protowire.Number, _ uint64, b []byte) error {
		switch num {
		case 1:
			m.kind = string(b)
		case 2:
			m.source = string(b)
		case 3:
			m.target = string(b)
		case 4:
			m.options = append(m.options, string(b))
		}
		return nil
	})
	return m, err
}

func decodeInfo(msg []byte) (i snapshotInfo, err error) {
	err = fields(msg, func(num protowire.Number, _ uint64, b []byte) error {
		switch num {
		case 1:
			i.name = string(b)
		case 2:
			i.parent = string(b)
		}
		return nil
	})
	return i, err
}

func decodeDescriptor(msg []byte) (d descriptor, err error) {
	err = fields(msg, func(num protowire.Number, n uint64, b []byte) error {
		switch num {
		case 1:
			d.mediaType = string(b)
		case 2:
			d.digest = string(b)
		case 3:
			d.size = int64(n) //nolint:gosec // int64 on the wire
		}
		return nil
	})
	return d, err
}

// each decodes the repeated messages in field num of a response.
func each[T any](msg []byte, want protowire.Number, decode func([]byte) (T, error)) ([]T, error) {
	var out []T
	err := fields(msg, func(num protowire.Number, _ uint64, b []byte) error {
		if num != want {
			return nil
		}
		v, err := decode(b)
		if err != nil {
			return err
		}
		out = append(out, v)
		return nil
	})
	return out, err
}

// one decodes the message in field num of a response.
func one[T any](msg []byte, num protowire.Number, decode func([]byte) (T, error)) (T, error) {
	all, err := each(msg, num, decode)
	if err != nil || len(all) == 0 {
		var none T
		if err == nil {
			err = fmt.Errorf("%w: the answer is empty", errMalformed)
		}
		return none, err
	}
	return all[len(all)-1], nil
}

// field is one string of a request.
type field struct {
	num   protowire.Number
	value string
}

// request encodes a message of strings.
func request(fs ...field) []byte {
	var b []byte
	for _, f := range fs {
		if f.value != "" {
			b = protowire.AppendTag(b, f.num, protowire.BytesType)
			b = protowire.AppendString(b, f.value)
		}
	}
	return b
}
