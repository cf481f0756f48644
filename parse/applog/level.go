package applog

// level gives the usual word for a writer's word, and whether it is one. Words are recognised in capitals or small letters.
func level(s string) (string, bool) {
	if len(s) == 0 || len(s) > 11 {
		return "", false
	}
	var low [11]byte
	for i := range len(s) {
		c := s[i]
		if c-'A' < 26 {
			c |= 0x20
		}
		low[i] = c
	}
	switch string(low[:len(s)]) {
	case "trace", "trc", "verbose", "finest", "finer", "silly":
		return "trace", true
	case "debug", "dbg", "dbug", "fine", "debug1":
		return "debug", true
	case "info", "inf", "information", "config", "informational", "default", "log":
		return "info", true
	case "notice":
		return "notice", true
	case "warn", "warning", "wrn":
		return "warn", true
	case "error", "err", "eror", "fail", "severe":
		return "error", true
	case "crit", "critical", "alert", "emerg", "emergency":
		return "critical", true
	case "fatal", "ftl", "dpanic":
		return "fatal", true
	case "panic", "pnc":
		return "panic", true
	}
	return "", false
}

// numbered are the levels of pino and bunyan.
func numbered(n int64) string {
	switch {
	case n < 10 || n > 69:
		return ""
	case n < 20:
		return "trace"
	case n < 30:
		return "debug"
	case n < 40:
		return "info"
	case n < 50:
		return "warn"
	case n < 60:
		return "error"
	}
	return "fatal"
}

// levelWord is level for a word of free text, where small letters alone are no level: "error opening x" is a sentence.
func levelWord(s string) (string, bool) {
	if len(s) < 3 || s[0]-'A' >= 26 || s[len(s)-1]-'A' >= 26 {
		return "", false
	}
	return level(s)
}
