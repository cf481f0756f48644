package formats

import "github.com/sherd-forensics/sherd/parse"

var logs = []parse.Format{}
