// Package journal reads what systemd's journal kept: its binary files, regular and compact, and what journalctl makes of them with -o export and -o json.
//
// Specifications: https://systemd.io/JOURNAL_FILE_FORMAT/, https://systemd.io/JOURNAL_EXPORT_FORMATS/ and, for the fields,
// https://www.freedesktop.org/software/systemd/man/latest/systemd.journal-fields.html
//
// An entry proves that the journal's daemon received this message, and fields that begin with an underscore are what the kernel told the daemon about the sender: its process,
// user and unit. All other fields are the sender's word, the program's name, the container's and the priority included. It does not prove that the message is true, nor,
// without forward secure sealing (which is not checked), that the file was not changed: root can write it. A message of sshd or sudo counts as theirs when the kernel says
// that the sender has this name, which keeps out plain forgeries, but not a process that gives itself the name. What a container writes is carried to the journal by its
// runtime: the columns of the process are then empty, carried_by names the runtime.
//
// An entry of a binary file holds the places of its fields: the citation is the entry, message_offset the object that has the text.
//
// The binary reader is the project's own: it must bound what hostile files make it read and keep, cite the bytes of each entry, and go on after damage, which readers made for
// trusted files do not promise. It walks the objects from the first to the last and compares with the file's own index, so that an entry that was taken out of the index, or
// that an object with a wrong length covers, is found; the attribute not_in_index marks what journalctl would not show, covered what only the index has. Fields and entries
// are held against the hashes that the file keeps of them: altered_fields and altered_entry tell of damage or of somebody who changed the file by hand; whoever takes care
// makes the hashes anew. Files that were not closed (state ONLINE) and copies that are cut are read as far as they go. Fields are expanded from zstd and LZ4; there is no
// reader of xz here, and a field compressed with it is told as not read.
package journal

import (
	"bytes"
	"encoding/binary"

	"github.com/sherd-forensics/sherd/parse"
	"github.com/sherd-forensics/sherd/parse/internal/jsonrecords"
)

// Binary is a journal file as journald writes it.
var Binary = parse.Format{
	Name:  "journal",
	Title: "systemd journal file",
	Spec:  "https://systemd.io/JOURNAL_FILE_FORMAT/",
	Sniff: func(head []byte) parse.Confidence {
		if bytes.HasPrefix(head, []byte(signature)) {
			return parse.Certain
		}
		return parse.No
	},
	Read: readBinary,
}

// Export is the export format, of journalctl -o export and systemd-journal-gatewayd.
var Export = parse.Format{
	Name:  "journal-export",
	Title: "systemd journal, export format",
	Spec:  "https://systemd.io/JOURNAL_EXPORT_FORMATS/#journal-export-format",
	Sniff: sniffExport,
	Read:  readExport,
}

// JSON is the output of journalctl -o json, json-pretty and json-seq.
var JSON = parse.Format{
	Name:  "journal-json",
	Title: "systemd journal, JSON",
	Spec:  "https://systemd.io/JOURNAL_EXPORT_FORMATS/#journal-json-format",
	Sniff: func(head []byte) parse.Confidence {
		if jsonrecords.Sniff(head, jsonrecords.Options{}, isJSON) {
			return parse.Certain
		}
		return parse.No
	},
	Read: readJSON,
}

const signature = "LPKSHHRH"

// What is kept of one entry.
const (
	maxMessage = 16 << 10  // bytes of the message, also of one joined from pieces
	maxValue   = 2 << 10   // bytes of any other field
	maxName    = 64        // bytes of a field's name, as journald bounds it
	maxFields  = 1024      // that are looked at, as journald bounds them
	maxEntry   = 256 << 10 // bytes of all its fields
	maxExtra   = 64        // fields without a place of their own that are kept
)

// field is one of an entry.
type field struct {
	name, value string
	cut         bool // the value is longer
	// Of binary files: its part of the entry's hash, when all of it was read, and whether it is not what its own hash says.
	sum     uint64
	summed  bool
	altered bool
}

// entry is one message with its fields.
type entry struct {
	offset, length int64
	message        int64  // where the object of its message stands in a binary file
	realtime       uint64 // microseconds, 0 when it is not known
	fields         []field
	left           int  // fields that were left out
	unread         int  // fields that could not be read
	unlisted       bool // the file's index does not have it
	covered        bool // only the index has it: another object says that these bytes are its own
	altered        bool // its fields are not those that its hash was made of
	cut            bool // it breaks off
}

// get is the value of the first field of this name.
func (e *entry) get(name string) string {
	for i := range e.fields {
		if e.fields[i].name == name {
			return e.fields[i].value
		}
	}
	return ""
}

// limit is how much is kept of a field.
func limit(name string) int {
	if name == "MESSAGE" {
		return maxMessage
	}
	return maxValue
}

// isName reports whether b is a field's name: capitals, digits and underscores.
func isName(b []byte) bool {
	if len(b) == 0 || len(b) > maxName || b[0] >= '0' && b[0] <= '9' {
		return false
	}
	for _, c := range b {
		if c != '_' && (c < 'A' || c > 'Z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

// split takes "NAME=value" apart.
func split(b []byte, whole bool) (field, bool) {
	i := bytes.IndexByte(b[:min(len(b), maxName+1)], '=')
	if i < 0 || !isName(b[:i]) {
		return field{}, false
	}
	f := field{name: string(b[:i])}
	v := b[i+1:]
	if n := limit(f.name); len(v) > n {
		v, whole = v[:n], false
	}
	f.value, f.cut = string(v), !whole
	return f, true
}

var le = binary.LittleEndian
