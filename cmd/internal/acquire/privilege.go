package acquire

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Bits of the capability sets in /proc/self/status, from linux/capability.h.
const (
	capDACOverride   = 1
	capDACReadSearch = 2
	capSysPtrace     = 19
	capSysAdmin      = 21
)

// PrivilegeError says which capabilities a capture lacks.
type PrivilegeError struct {
	Missing []string
	URL     string
	// Partial is true where --partial would still give something.
	Partial bool
}

func (e *PrivilegeError) Error() string {
	s := fmt.Sprintf("reading another user's processes needs root or CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH and CAP_SYS_ADMIN (missing here: %s); run with sudo",
		strings.Join(e.Missing, ", "))
	if e.Partial {
		s += fmt.Sprintf(",\n       or `sherd collect %s --partial` for what can be had without (the runtime's records, logs, and its list of changed files)", e.URL)
	}
	return s
}

// missingCapabilities lists what this process lacks for a whole capture.
func missingCapabilities() []string {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return []string{"unknown: " + err.Error()}
	}
	var eff uint64
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "CapEff:"); ok {
			eff, err = strconv.ParseUint(strings.TrimSpace(v), 16, 64)
			if err != nil {
				return []string{"unknown: " + err.Error()}
			}
		}
	}
	has := func(bit uint) bool { return eff&(1<<bit) != 0 }
	var missing []string
	if !has(capSysPtrace) {
		missing = append(missing, "CAP_SYS_PTRACE")
	}
	if !has(capDACReadSearch) && !has(capDACOverride) {
		missing = append(missing, "CAP_DAC_READ_SEARCH")
	}
	if !has(capSysAdmin) {
		missing = append(missing, "CAP_SYS_ADMIN")
	}
	return missing
}
