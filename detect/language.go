package detect

import (
	"context"
	"iter"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/evidence"
)

// Input is what rules in languages of their own are given: everything of one package.
type Input struct {
	Facts   *Facts
	Package *evidence.Package
	// Events reads the package's events from the start each time it is ranged over, in the order of its artifacts; nil where none are to
	// be had. An error ends the reading: what came before it stands, and what did not come is unknown.
	Events iter.Seq2[*event.Event, error]
}

// Language is a set of rules in one language with what it takes to ask them: YARA, Sigma, or conditions in CEL. Its rules answer as
// those of this package do: hit, clean or blind. An error says that none of them could be asked.
type Language interface {
	// Name is that of the language, as people write it.
	Name() string
	// Rules lists all rules that were loaded.
	Rules() []Rule
	// Answers asks them. Answers of rules that are clean may be left out; rules that are blind say so.
	Answers(ctx context.Context, in Input) ([]Answer, error)
}

// Refusal is a rule that can't be loaded, or a file of which none can be. The rest is loaded all the same.
type Refusal struct {
	File string
	Line int    // from 1, 0 if unknown
	Rule string // "" if the whole file is refused
	Why  string
}

// BlindTo notes that a part of what a rule asks for could not be looked at, once for each part. It is for rules outside of this package.
func (a *Answer) BlindTo(what, why string) { a.blind(what, why) }
