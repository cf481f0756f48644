package formats

import "github.com/sherd-forensics/sherd/parse"

var cloud = []parse.Format{}
