package formats

import (
	"github.com/sherd-forensics/sherd/parse"
	"github.com/sherd-forensics/sherd/parse/auditd"
	"github.com/sherd-forensics/sherd/parse/journal"
	"github.com/sherd-forensics/sherd/parse/syslog"
	"github.com/sherd-forensics/sherd/parse/utmp"
)

// node is what the machine's own daemons write.
var node = []parse.Format{auditd.Format, journal.Binary, journal.Export, journal.JSON, syslog.Format, utmp.Format}
