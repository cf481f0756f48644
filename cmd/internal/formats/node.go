package formats

import "github.com/sherd-forensics/sherd/parse"

var node = []parse.Format{}
