package formats

import "github.com/sherd-forensics/sherd/parse"

var cluster = []parse.Format{}
