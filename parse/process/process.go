// Package process reads process/processes.jsonl of an evidence package, and the environments beside it: which processes the
// container had, what they ran, what they were started with. The format is docs/evidence-format.md's; the rows are
// record.Process, which come from proc_pid_stat(5), proc_pid_status(5), proc_pid_cmdline(5), proc_pid_exe(5),
// proc_pid_fd(5) and proc_pid_environ(5).
//
// What it proves: that the kernel showed this process at the capture, with this parent, start time, credentials, program and
// descriptors. The program's file, its hash, the start ticks and the namespaces are the kernel's word. Clock ticks and
// boot time make the start time good to 10 ms, by the host's clock as it stood at the capture.
//
// What it does not prove: comm, command line and environment lie in the process's own memory, and it may have written anything
// there since it started; an environment is at best what it was started with, and says nothing of setenv(3) since.
// The parent is the one of now: an orphan's is a reaper, not who started it. The row is not one instant: a process may have
// executed another program or ended between two of its fields (Errors says so where it was noticed). What started and
// ended before the capture has no row.
package process

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strconv"

	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
	formats "github.com/sherd-forensics/sherd/parse"
	"github.com/sherd-forensics/sherd/verdict"
)

// Path is the artifact of the rows.
const Path = "process/processes.jsonl"

// maxLine bounds one row, in bytes: 1 MiB of arguments and 1 MiB of descriptors' targets, each byte escaped as five, and 16,384
// descriptors make some 25 MiB.
const maxLine = 32 << 20

// Row is one process and where its line stands.
type Row struct {
	record.Process
	Cite verdict.Citation
}

// LineError is a line that is not what it should be. Reading goes on after it.
type LineError = formats.LineError

// Read gives the rows in the order in which they were written, which is not that of pids. A malformed line is yielded as a
// *LineError, beside a zero Row, and the next one follows; any other error is the last.
func Read(p *evidence.Package) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		for l, err := range p.Lines(Path) {
			if err != nil {
				yield(Row{}, fmt.Errorf("reading %s: %w", Path, err))
				return
			}
			r, err := parse(l.Data)
			if err != nil {
				if !yield(Row{}, &LineError{Artifact: l.Artifact, Offset: l.Offset, Err: err}) {
					return
				}
				continue
			}
			if !yield(Row{r, verdict.Citation{Artifact: l.Artifact, Offset: l.Offset, Length: l.Length, SHA256: l.SHA256}}, nil) {
				return
			}
		}
	}
}

var origins = map[string]bool{
	record.ExeImage: true, record.ExeDrift: true, record.ExeDeleted: true, record.ExeMemfd: true, record.ExeVolume: true,
	record.ExeOutside: true, record.ExeUnknown: true,
}

// parse reads one line. Fields of later versions are ignored; a row that leads elsewhere than to its own folder, or holds
// values that no collector writes, is not believed.
func parse(line []byte) (record.Process, error) {
	var r record.Process
	if len(line) > maxLine {
		return r, fmt.Errorf("a line of %d bytes, over the limit of %d", len(line), maxLine)
	}
	line = bytes.TrimSuffix(line, []byte("\n"))
	if len(line) == 0 || line[0] != '{' {
		return r, errors.New("not a JSON object")
	}
	if err := json.Unmarshal(line, &r); err != nil {
		return record.Process{}, err
	}
	var err error
	switch {
	case r.PID <= 0:
		err = fmt.Errorf("pid %d", r.PID)
	case r.PPID < 0 || r.ContainerPID < 0:
		err = errors.New("a negative pid")
	case r.StartTime < 0:
		err = errors.New("a start before 1970")
	case r.Dir != dir(r.PID):
		err = fmt.Errorf("folder %.40q is not that of pid %d", r.Dir, r.PID)
	case !origins[r.Exe.Origin]:
		err = fmt.Errorf("unknown origin %.40q", r.Exe.Origin)
	case r.Exe.SHA256 != "" && !isHash(r.Exe.SHA256):
		err = errors.New("malformed sha256")
	}
	if err != nil {
		return record.Process{}, err
	}
	return r, nil
}

func dir(pid int) string { return "process/" + strconv.Itoa(pid) }

func isHash(s string) bool {
	if len(s) != 64 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
