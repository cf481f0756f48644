package detect

import (
	"slices"
	"strings"

	"github.com/sherd-forensics/sherd/evidence/record"
)

// Ended reports whether a process was gone, or going, while the capture read it: it is not there any more, as is every one that ended
// a moment before, and what could not be read of it says nothing of what still runs. The capture's list of what it missed tells of it
// all the same.
func (f *Facts) Ended(p *Process) bool {
	over := func(why string) bool {
		return strings.Contains(why, "process ended") || strings.Contains(why, "no such process")
	}
	if p.State == "Z" || p.State == "X" || slices.ContainsFunc(p.Errors, over) {
		return true
	}
	of := "memory of process " + itoa(p.PID)
	missed := slices.ContainsFunc(f.Coverage.Missed, func(m record.Miss) bool { return m.What == of })
	if !missed {
		// The capture looked, says of nothing that it failed, and the kernel had no mapping to show: so it is with what has just ended.
		state := f.Coverage.Collected["memory"]
		return (state == "complete" || state == "partial") && f.Read != nil && f.Read(p.Dir+"/memory.jsonl", 0, 1) == nil
	}
	return slices.ContainsFunc(f.Coverage.Missed, func(m record.Miss) bool { return m.What == of && over(m.Reason) })
}
