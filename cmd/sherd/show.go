package main

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sherd-forensics/sherd/cmd/internal/console"
	elf "github.com/sherd-forensics/sherd/detect/program"
	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/internal/printable"
	"github.com/sherd-forensics/sherd/investigate"
	"github.com/sherd-forensics/sherd/parse"
	"github.com/sherd-forensics/sherd/verdict"
)

// showLimit is how many bytes are shown unless --length asks for more.
const showLimit = 512

func newShow(a *app) *cobra.Command {
	var offset, length int64
	var raw, expand bool
	var lists, rules []string
	c := &cobra.Command{
		Use:   "show EVIDENCE [N|ARTIFACT]",
		Short: "show the bytes behind a citation, in hex and text",
		Long: `Show lists the artifacts of a package, or shows the bytes of one. N is a number from the Proof list of
"sherd investigate" on the same package. EVIDENCE may also be a loose file, of which
--offset, --length, --raw or --decompress say what to show. Of compressed logs, events point into the
expanded text: --decompress shows it.`,
		Example: `  sherd show case7.sherd
  sherd show case7.sherd logs/1.log.gz --decompress --offset 4711 --length 200
  sherd show /var/log/syslog --offset 812204 --length 131
  sherd show case7.sherd 4
  sherd show case7.sherd logs/0.log --offset 812204 --length 131
  sherd show case7.sherd process/4711/exe --raw > implant.elf`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 2 {
				return exactly(2, "the package")(cmd, args)
			}
			if len(args) == 0 {
				return exactly(1, "the package")(cmd, args)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("length") && length < 1 || offset < 0 {
				return usagef("--offset must not be negative and --length must be at least 1")
			}
			p, err := a.open(args[0])
			var not *evidence.NotPackageError
			if loose := cmd.Flags().Changed("offset") || cmd.Flags().Changed("length") || raw || expand; errors.As(err, &not) && len(args) == 1 && loose {
				return showFile(a, args[0], span{offset, length, raw, expand})
			}
			if err != nil {
				return err
			}
			defer p.Close()
			if len(args) == 1 {
				return list(a, p)
			}
			cite := verdict.Citation{Artifact: args[1], Offset: offset, Length: length}
			if n, err := strconv.Atoi(strings.Trim(args[1], "[]")); err == nil {
				set, err := a.indicators(lists)
				if err != nil {
					return err
				}
				more, err := a.ruleset(rules)
				if err != nil {
					return err
				}
				proofs, err := proofs(cmd.Context(), p, investigate.Options{Indicators: set, Languages: more.Languages()}, more.Folders())
				if err != nil {
					return err
				}
				if n < 1 || n > len(proofs) {
					return fmt.Errorf("there is no proof %d: `sherd investigate %s` numbers them from 1 to %d", n, printable.Text(args[0]), len(proofs))
				}
				cite = proofs[n-1]
				if cmd.Flags().Changed("length") {
					cite.Length = length
				}
			}
			return showBytes(a, p, cite, raw, expand)
		},
	}
	c.Flags().Int64Var(&offset, "offset", 0, "first `BYTE` to show")
	c.Flags().Int64Var(&length, "length", 0, "how many `BYTES` to show (default the citation's, or 512)")
	c.Flags().BoolVar(&raw, "raw", false, "write the bytes as they are, for another program (the whole artifact unless --length is given)")
	c.Flags().BoolVarP(&expand, "decompress", "z", false, "offsets and bytes are of what a gzip or zstd artifact expands to")
	c.Flags().StringArrayVar(&lists, "indicators", nil, "the `FILE` that was given to investigate, which numbers its proofs too (repeatable)")
	c.Flags().StringArrayVar(&rules, "rules", nil, "the `DIR|FILE` that was given to investigate, which numbers its proofs too (repeatable)")
	a.identityFlag(c)
	return c
}

func list(a *app, p *evidence.Package) error {
	if p.Truncated() {
		a.note("the package is cut short: it is listed up to its last whole frame")
	}
	w := bufio.NewWriter(a.out)
	defer w.Flush()
	rows := make([][]string, 0, 64)
	for _, e := range p.Artifacts("") {
		sum := e.SHA256
		if len(sum) > 12 {
			sum = sum[:12]
		}
		rows = append(rows, []string{console.Bytes(e.Size), sum, record.Escape(e.Path)})
	}
	console.Table(w, max(console.Width(a.out), 4000), []string{"SIZE", "SHA256", "ARTIFACT"}, rows)
	return nil
}

// span says which bytes are shown, and how.
type span struct {
	offset, length int64 // length 0 is the default
	raw, expand    bool
}

func showBytes(a *app, p *evidence.Package, c verdict.Citation, raw, expand bool) error {
	name := c.Artifact
	e, ok := p.Artifact(name)
	if !ok {
		// Names are printed escaped, so they are accepted escaped.
		if u, err := record.Unescape(name); err == nil {
			e, ok = p.Artifact(u)
			name = u
		}
	}
	if !ok {
		return fmt.Errorf("the package holds no artifact %q; `sherd show %s` lists them", printable.Text(name), printable.Text(p.Path()))
	}
	art, err := p.Open(name)
	if err != nil {
		return err
	}
	head := "sha256 " + e.SHA256
	if e.Origin != "" {
		head += "  from " + printable.Text(e.Origin)
	}
	return a.bytes(art, record.Escape(name), head, span{c.Offset, c.Length, raw, expand})
}

// showFile shows the bytes of a file that is no package.
func showFile(a *app, path string, s span) error {
	f, err := parse.OpenFile(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return a.bytes(f, path, "a loose file, not sealed", s)
}

// bytes shows a part of content, which name and head describe.
func (a *app) bytes(art parse.Content, name, head string, s span) error {
	if s.raw && isTerminalWriter(a.out) {
		return usagef("raw evidence may control your terminal: redirect it to a file, or leave --raw out")
	}
	if s.expand {
		return a.expanded(art, name, head, s)
	}
	size := art.Size()
	if s.offset > size {
		return fmt.Errorf("%s has %d bytes; offset %d lies behind its end", printable.Text(name), size, s.offset)
	}
	length := s.length
	if length <= 0 {
		length = size - s.offset
		if !s.raw {
			length = min(length, showLimit)
		}
	}
	length = min(length, size-s.offset)
	section := io.NewSectionReader(art, s.offset, length)
	if s.raw {
		var err error
		if s.offset == 0 && length == size {
			_, err = io.Copy(a.out, art) // read whole, so that its hash is checked
		} else {
			_, err = io.Copy(a.out, section)
		}
		return err
	}
	w := bufio.NewWriter(a.out)
	fmt.Fprintf(w, "%s  +%d (%d B of %s)\n%s\n", printable.Text(name), s.offset, length, console.Bytes(size), head)
	if s.offset == 0 {
		elfFacts(w, art)
	}
	fmt.Fprintln(w)
	return errors.Join(dump(w, section, s.offset), w.Flush())
}

// expanded shows a part of what compressed content expands to. It must be expanded from its beginning.
func (a *app) expanded(art parse.Content, name, head string, s span) error {
	in, err := parse.NewInput(art, event.Event{Artifact: name})
	if err != nil {
		return err
	}
	defer in.Close()
	if in.Compression == "" {
		return usagef("%s is not compressed with gzip or zstd: leave --decompress out", printable.Text(name))
	}
	if n, err := io.CopyN(io.Discard, in, s.offset); errors.Is(err, io.EOF) {
		return fmt.Errorf("%s expands to %d bytes; offset %d lies behind its end", printable.Text(name), n, s.offset)
	} else if err != nil {
		return err
	}
	length := s.length
	if length <= 0 && !s.raw {
		length = showLimit
	}
	var part io.Reader = in
	if length > 0 {
		part = io.LimitReader(in, length)
	}
	if s.raw {
		_, err = io.Copy(a.out, part)
	} else {
		w := bufio.NewWriter(a.out)
		fmt.Fprintf(w, "%s, expanded (%s)  +%d\n%s (of the compressed bytes)\n\n", printable.Text(name), in.Compression, s.offset, head)
		err = errors.Join(dump(w, part, s.offset), w.Flush())
	}
	for _, k := range in.Skips() {
		a.note("%s", printable.Text(k.Reason))
	}
	return err
}

// elfFacts says what a program is, above its bytes; nothing of other files.
func elfFacts(w io.Writer, art parse.Content) {
	x, err := elf.Read(art, art.Size())
	if err != nil || x.Kind == "core dump" {
		return
	}
	line := func(label, text string) {
		if text != "" {
			fmt.Fprintf(w, "%-12s %s\n", label, text)
		}
	}
	line("ELF", x.Summary())
	line("compiler", x.Compiler)
	if x.Go != nil {
		line("built from", strings.TrimSpace(x.Go.Path+" "+x.Go.Module))
		line("revision", strings.TrimSpace(x.Go.Revision+" "+x.Go.Time))
		line("modules", strings.Join(x.Go.Deps, ", "))
	}
	line("build id", x.BuildID)
	line("Go build id", x.GoBuildID)
	line("needs", strings.Join(x.Needed, ", "))
	for _, a := range x.Can {
		line("can at least", a.What+"  ("+strings.Join(a.From, ", ")+")")
	}
	line("packed", strings.Join(x.Packed, "; "))
	line("entropy", fmt.Sprintf("%.2f bits per byte, code %.2f", x.Entropy, x.CodeEntropy))
	if x.Appended > 0 {
		line("appended", fmt.Sprintf("%d bytes", x.Appended))
	}
	line("TLSH", x.TLSH)
	line("problems", strings.Join(x.Problems, "; "))
}

func isTerminalWriter(w io.Writer) bool { return console.IsTerminal(w) }

// dump writes bytes as hexdump -C does: offset, sixteen bytes, and their printable ASCII.
func dump(w io.Writer, r io.Reader, offset int64) error {
	buf := make([]byte, 16)
	for {
		n, err := io.ReadFull(r, buf)
		if n > 0 {
			text := make([]byte, n)
			for i, c := range buf[:n] {
				text[i] = '.'
				if c >= 0x20 && c < 0x7f {
					text[i] = c
				}
			}
			h := hex.EncodeToString(buf[:n])
			var cols strings.Builder
			for i := 0; i < 16; i++ {
				if i == 8 {
					cols.WriteByte(' ')
				}
				if i < n {
					cols.WriteString(h[2*i:2*i+2] + " ")
				} else {
					cols.WriteString("   ")
				}
			}
			if _, werr := fmt.Fprintf(w, "%08x  %s |%s|\n", offset, cols.String(), text); werr != nil {
				return werr
			}
			offset += int64(n)
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return err
		}
	}
}
