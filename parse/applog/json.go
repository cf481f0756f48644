package applog

import (
	"strings"

	"github.com/sherd-forensics/sherd/internal/timestamp"
	"github.com/sherd-forensics/sherd/parse/internal/jsonrecords"
)

// A slot is a place in a Record that several names of fields lead to.
type slot uint8

const (
	noSlot slot = iota
	slotTime
	slotLevel
	slotMessage
	slotLogger
	slotCaller
	slotThread
	slotPID
	slotHost
	slotUser
	slotError
	slotErrorType
	slotStack
	slotTrace
	// From here on: of a request.
	slotMethod
	slotPath
	slotStatus
	slotRemote
	slotPort
	slotAgent
	slotReferer
	slotBytes
	slotAuthority
	slotForwarded
	slotUpstream
	slotCount

	dropped slot = 255 // known, and not worth a place
)

// found is the best field for a slot so far.
type found struct {
	v    jsonrecords.Node
	name string
	rank uint8
}

// A place is the object that a field stands in.
type place uint8

const (
	root place = iota
	inRequest
	inResponse
	inHeaders
	inSource
	inURL
	inAgent
	inLog
	inProcess
	inThread
	inUser
	inHost
	inError
	inTrace
	elsewhere
)

// maxKey is the longest name that is compared.
const maxKey = 40

// fold writes a name without what writers differ in: the case of letters, and what joins words.
func fold(to *[maxKey]byte, name []byte) []byte {
	n := 0
	for _, c := range name {
		switch {
		case c-'A' < 26:
			c |= 0x20
		case c == '_' || c == '-' || c == '@' || c == ' ' || c == '$':
			continue
		}
		if n == maxKey {
			return nil
		}
		to[n] = c
		n++
	}
	return to[:n]
}

// json reads a line that is an object.
func (r *Reader) json(b []byte, rec *Record) bool {
	object, ok := r.tree.Parse(b)
	if !ok || object.Type() != jsonrecords.Object {
		return false
	}
	r.slots = [slotCount]found{}
	r.members(object, root, "", 0)
	r.jsonTime(rec)
	r.jsonCommon(rec)
	if r.jsonRequest(rec) {
		rec.IsRequest = true
		return true
	}
	for i := slotMethod; i < slotCount; i++ {
		if f := &r.slots[i]; f.rank != 0 && !f.v.Is("") {
			if (i == slotRemote && f.rank <= rankRemote || i == slotPort) && rec.Request.RemoteIP != "" {
				continue
			}
			r.rest.node(f.name, f.v)
		}
	}
	return true
}

// maxNesting bounds how deep objects are looked into for known fields.
const maxNesting = 4

// members sorts the fields of an object into slots. prefix is of the names of those that have none.
func (r *Reader) members(o jsonrecords.Node, p place, prefix string, depth int) {
	var buf [maxKey]byte
	for name, v := range o.Members {
		key := fold(&buf, name)
		object := v.Type() == jsonrecords.Object
		at := p
		// Names with points are paths: log.level.
		for p != inHeaders && !object {
			dot := -1
			for i, c := range key {
				if c == '.' {
					dot = i
					break
				}
			}
			if dot < 0 {
				break
			}
			next := within(at, key[:dot])
			if next == elsewhere {
				break
			}
			at, key = next, key[dot+1:]
		}
		if object && depth < maxNesting {
			if next := within(at, key); next != elsewhere {
				r.members(v, next, prefix+r.intern(name)+".", depth+1)
				continue
			}
		}
		s, rank := classify(at, key)
		if s == dropped || p == inHeaders && s == noSlot {
			continue
		}
		if object && s != slotTime && s != slotError {
			s = noSlot
		}
		if s == noSlot || !v.Exists() {
			if r.rest != nil && v.Exists() {
				r.rest.node(prefix+r.intern(name), v)
			}
			continue
		}
		f := &r.slots[s]
		if v.Is("") || f.rank != 0 && f.rank <= rank {
			if f.rank != 0 && !same(f.v, v) {
				r.rest.node(prefix+r.intern(name), v)
			}
			continue
		}
		if f.rank != 0 && !same(f.v, v) {
			r.rest.node(f.name, f.v)
		}
		*f = found{v, prefix + r.intern(name), rank}
	}
}

func same(a, b jsonrecords.Node) bool { return string(a.Raw()) == string(b.Raw()) }

// intern keeps names of fields, which come again and again.
func (r *Reader) intern(name []byte) string {
	if s, ok := r.names[string(name)]; ok {
		return s
	}
	if len(r.names) >= maxNames {
		clear(r.names)
	}
	s := string(name)
	r.names[s] = s
	return s
}

// within is the place that an object opens.
func within(p place, key []byte) place {
	switch string(key) {
	case "req", "request", "httprequest", "http":
		return inRequest
	case "res", "response", "resp":
		return inResponse
	case "headers", "header":
		return inHeaders
	case "source", "client", "remote":
		return inSource
	case "url", "uri":
		return inURL
	case "useragent":
		return inAgent
	case "log", "origin", "file":
		if p == root && string(key) == "log" || p == inLog {
			return inLog
		}
		return elsewhere
	case "process":
		return inProcess
	case "thread":
		if p == inProcess {
			return inThread
		}
		return elsewhere
	case "user":
		return inUser
	case "host", "agent":
		if p == root && string(key) == "host" {
			return inHost
		}
		return elsewhere
	case "error", "err", "exception", "thrown":
		return inError
	case "trace", "span", "transaction":
		return inTrace
	case "body":
		if p == inRequest || p == inResponse {
			return p
		}
		return elsewhere
	case "fields", "context", "ctx", "extra", "jsonpayload", "meta", "properties", "attributes", "data", "labels":
		return p
	}
	return elsewhere
}

// jsonTime takes the time that the writer says.
func (r *Reader) jsonTime(rec *Record) {
	f := &r.slots[slotTime]
	v := f.v
	var ok bool
	switch v.Type() {
	case jsonrecords.String:
		s := v.Text()
		if rec.Time, ok = timestamp.RFC3339(s); ok {
			return
		}
		rec.Time, rec.Assumed, ok = r.clock.Parse(s)
	case jsonrecords.Number:
		rec.Time, ok = timestamp.Epoch(string(v.Raw()))
	case jsonrecords.Object: // {"seconds":…,"nanos":…} of Google Cloud; {"epochSecond":…,"nanoOfSecond":…} of Log4j
		s, ok1 := v.First("seconds", "epochSecond").Int()
		n, _ := v.First("nanos", "nanoOfSecond").Int()
		if ok = ok1 && s > 0 && s < 1<<33 && n >= 0 && n < 1e9; ok {
			rec.Time = s*1e9 + n
		}
	default:
		return
	}
	if !ok {
		rec.Time, rec.Assumed = 0, 0
		r.rest.node(f.name, v)
	}
}

// jsonCommon fills what any line may have.
func (r *Reader) jsonCommon(rec *Record) {
	get := func(s slot) string { return value(r.slots[s].v) }
	if v := r.slots[slotLevel].v; v.Type() == jsonrecords.Number {
		n, _ := v.Int()
		if rec.Level = numbered(n); rec.Level == "" {
			rec.Level = v.Text()
		}
	} else if s := v.Text(); s != "" {
		var ok bool
		if rec.Level, ok = level(s); !ok {
			rec.Level = strings.ToLower(clip(s, 32))
		}
	}
	rec.Message, rec.Logger, rec.Caller, rec.Thread = get(slotMessage), get(slotLogger), get(slotCaller), get(slotThread)
	rec.User, rec.Trace, rec.Host, rec.Stack = get(slotUser), get(slotTrace), get(slotHost), get(slotStack)
	if e := r.slots[slotError]; e.v.Type() == jsonrecords.Object {
		r.rest.node(e.name, e.v)
	} else {
		rec.Error = value(e.v)
	}
	if t := get(slotErrorType); t != "" {
		if rec.Error == "" {
			rec.Error = t
		} else if !strings.HasPrefix(rec.Error, t) {
			rec.Error = t + ": " + rec.Error
		}
	}
	rec.PID = r.slots[slotPID].v.Whole()
	// An address that belongs to no request is still somebody's.
	if f := &r.slots[slotRemote]; f.rank != 0 && f.rank <= rankRemote {
		rec.Request.remote(value(f.v))
		if rec.Request.RemotePort == 0 {
			rec.Request.RemotePort = jsonrecords.Port(r.slots[slotPort].v)
		}
	}
}

// jsonRequest fills the request, when there are a method and a path.
func (r *Reader) jsonRequest(rec *Record) bool {
	get := func(s slot) string { return value(r.slots[s].v) }
	method, path := strings.ToUpper(get(slotMethod)), get(slotPath)
	if !isMethod(method) || path == "" {
		return false
	}
	q := &rec.Request
	q.Method, q.Path = method, path
	q.Status = status(get(slotStatus))
	q.remote(get(slotRemote))
	if q.RemotePort == 0 {
		if n, ok := r.slots[slotPort].v.Int(); ok && n > 0 && n < 1<<16 {
			q.RemotePort = int(n)
		}
	}
	q.UserAgent, q.Referer, q.Host = get(slotAgent), get(slotReferer), get(slotAuthority)
	q.ForwardedFor, q.Upstream = get(slotForwarded), get(slotUpstream)
	if n, ok := r.slots[slotBytes].v.Int(); ok && n >= 0 {
		q.Bytes = n
	}
	return true
}

// value is a field as text, of a list its first.
func value(v jsonrecords.Node) string {
	if v.Type() == jsonrecords.Array {
		v = v.At(0)
	}
	return v.Text()
}

func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n] + "…"
}
