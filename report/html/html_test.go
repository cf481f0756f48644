package html

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/sherd-forensics/sherd/detect/detecttest"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/internal/testenv"
	"github.com/sherd-forensics/sherd/investigate"
	"github.com/sherd-forensics/sherd/report"
)

// hostile is markup, terminal escapes and overrides that an attacker may put wherever he chooses a name.
const hostile = "</script><script>document.title='owned'</script><img src=x onerror=document.title='owned'>\x1b[31m\u202e\"'&"

// attacked is a scene with a foreign process, a dropped file and hostile text in every field that an attacker chooses.
func attacked() *detecttest.Scene {
	s := detecttest.Busy()
	at := detecttest.Attack
	s.Request(at.Add(204*time.Millisecond), "10.0.7.31:40022", "POST", "/avatar?name=../../usr/lib/conv", 201)
	p := s.Foreign(4017, 17, 4001, "/usr/lib/"+hostile, record.ExeDeleted, detecttest.ELF+hostile, at.Add(610*time.Millisecond))
	p.Exe.Btime = at.Add(203 * time.Millisecond).UnixNano()
	p.Comm = hostile
	p.Cmdline = []record.Name{hostile, "javascript:alert(1)"}
	s.Connect(p, 3, "203.0.113.9", 4444, 11469, 3174)
	s.AddFile("/usr/bin/"+hostile, detecttest.ELF+"x", 0o4755, at.Add(time.Second))
	s.Logs = append(s.Logs, detecttest.Log{Time: at.Add(300 * time.Millisecond), Text: hostile})
	return s
}

// write renders a scene into a file and returns the path, the page and the investigation.
func write(t *testing.T, s *detecttest.Scene) (string, []byte, *investigate.Result) {
	t.Helper()
	p := s.Write(t)
	r, err := investigate.Investigate(context.Background(), p, investigate.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var b, again bytes.Buffer
	if err := Write(&b, r, p); err != nil {
		t.Fatal(err)
	}
	if err := Write(&again, r, p); err != nil || !bytes.Equal(b.Bytes(), again.Bytes()) {
		t.Errorf("the same investigation gives another page (%v)", err)
	}
	path := filepath.Join(t.TempDir(), "report.html")
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return path, b.Bytes(), r
}

func TestSelfContained(t *testing.T) {
	_, b, r := write(t, attacked())
	for i, c := range b {
		if c < 0x20 && c != '\n' && c != '\t' {
			t.Fatalf("control character %q at byte %d", c, i)
		}
	}
	if bytes.ContainsRune(b, '\u202e') {
		t.Error("a bidirectional override got into the page")
	}
	if n := bytes.Count(b, []byte("<script")); n != 1 {
		t.Errorf("%d scripts, want the page's own alone", n)
	}
	if m := regexp.MustCompile(`(?i)(src|href|action)\s*=\s*["']?(https?:|//|javascript:|data:)`).Find(b); m != nil {
		t.Errorf("a reference to the outside: %s", m)
	}
	if strings.Contains(string(b), "ZgotmplZ") {
		t.Error("the template refused a value")
	}
	// Every number that is cited has its bytes.
	for _, m := range regexp.MustCompile(`href="#(p[0-9]+)"`).FindAllSubmatch(b, -1) {
		if !bytes.Contains(b, []byte(`id="`+string(m[1])+`"`)) {
			t.Errorf("nothing behind citation %s", m[1])
		}
	}
	if len(report.Proofs(r)) < 3 {
		t.Errorf("only %d proofs", len(report.Proofs(r)))
	}
}

func TestEveryVerdictRenders(t *testing.T) {
	for name, s := range map[string]*detecttest.Scene{"clean": detecttest.Busy(), "attacked": attacked()} {
		_, b, r := write(t, s)
		if !bytes.Contains(b, []byte(strings.ToUpper(string(r.Verdict.Verdict)))) {
			t.Errorf("%s: the page does not show its verdict", name)
		}
	}
}

// browser starts a Chromium of the test's own and returns a tab and what scripts and policies complained of.
func browser(t *testing.T) (context.Context, *[]string) {
	t.Helper()
	testenv.NeedTool(t, "chromium")
	opts := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath("/usr/bin/chromium"), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(profile(t)),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.WindowSize(1200, 1400))
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), opts...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	ctx, cancel = context.WithTimeout(ctx, 60*time.Second)
	t.Cleanup(cancel)
	var complaints []string
	chromedp.ListenTarget(ctx, func(ev any) {
		switch e := ev.(type) {
		case *runtime.EventExceptionThrown:
			complaints = append(complaints, e.ExceptionDetails.Error())
		case *runtime.EventConsoleAPICalled:
			complaints = append(complaints, string(e.Type))
		}
	})
	return ctx, &complaints
}

// TestInBrowser reads the page as a person does: a click on a citation opens its bytes, dragging over the picture narrows the
// rows, a phone needs no sideways scrolling, hostile names run nothing.
func TestInBrowser(t *testing.T) {
	path, _, _ := write(t, attacked())
	ctx, complaints := browser(t)
	var title, open string
	var visible, all, after, overflow int
	var x, y, w float64
	rect := `(function(){var r=document.querySelector("#picture svg").getBoundingClientRect();return [r.left,r.top+30,r.width]})()`
	var box []float64
	err := chromedp.Run(ctx,
		chromedp.Navigate("file://"+path),
		chromedp.Title(&title),
		// Scrolling that goes on while the mouse moves would miss the picture.
		chromedp.Evaluate(`document.documentElement.style.scrollBehavior="auto"`, nil),
		chromedp.Click(`#answers a.cite`, chromedp.ByQuery),
		chromedp.WaitReady(`details.proof[open]`, chromedp.ByQuery),
		chromedp.Evaluate(`String(document.querySelector("details.proof").open)`, &open),
		chromedp.Evaluate(`document.querySelectorAll("#events tbody tr").length`, &all),
		chromedp.Evaluate(`document.querySelector("#picture").scrollIntoView({behavior:"instant",block:"center"})`, nil),
		chromedp.Evaluate(rect, &box),
	)
	if err != nil {
		t.Fatal(err)
	}
	x, y, w = box[0], box[1], box[2]
	err = chromedp.Run(ctx,
		chromedp.MouseEvent("mousePressed", x+w*0.80, y, chromedp.ButtonLeft),
		chromedp.MouseEvent("mouseMoved", x+w*0.90, y, chromedp.ButtonLeft),
		chromedp.MouseEvent("mouseReleased", x+w*0.97, y, chromedp.ButtonLeft),
		chromedp.Evaluate(`document.querySelectorAll("#events tbody tr:not([hidden])").length`, &visible),
		chromedp.MouseClickXY(x+w*0.5, y),
		chromedp.Evaluate(`document.querySelectorAll("#events tbody tr:not([hidden])").length`, &after),
		emulation.SetDeviceMetricsOverride(390, 800, 2, true),
		chromedp.Evaluate(`document.documentElement.scrollWidth - window.innerWidth`, &overflow),
	)
	if err != nil {
		t.Fatal(err)
	}
	if title == "owned" || !strings.Contains(title, "compromised") {
		t.Errorf("title %q", title)
	}
	if open != "true" {
		t.Error("a click on a citation did not open its bytes")
	}
	if all == 0 || visible >= all || after != all {
		t.Errorf("the brush showed %d of %d rows, and %d after a click", visible, all, after)
	}
	if overflow > 0 {
		t.Errorf("on a phone the page is %d pixels too wide", overflow)
	}
	if len(*complaints) > 0 {
		t.Errorf("the page complained: %v", *complaints)
	}
}

// TestPicture looks at the graph as a person does: wide on a desk, tall on a phone, and a box opens its proof.
func TestPicture(t *testing.T) {
	path, b, r := write(t, attacked())
	if len(r.Graph.Path) < 2 {
		t.Errorf("the way in has %d steps", len(r.Graph.Path))
	}
	for _, want := range []string{`class="graph wide"`, `class="graph tall"`, `<title id="gt-wide">`, `class="edge on"`, "The picture in words", "203.0.113.9:4444"} {
		if !bytes.Contains(b, []byte(want)) {
			t.Errorf("the page lacks %q", want)
		}
	}
	ctx, complaints := browser(t)
	var wide, tall, narrowWide, narrowTall, open string
	shown := func(class string) string {
		return `getComputedStyle(document.querySelector("svg.` + class + `")).display`
	}
	var outside, overflow int
	err := chromedp.Run(ctx,
		chromedp.Navigate("file://"+path),
		chromedp.Evaluate(shown("wide"), &wide), chromedp.Evaluate(shown("tall"), &tall),
		// No label leaves its box.
		chromedp.Evaluate(`[...document.querySelectorAll("svg.wide g.node")].filter(g=>{var r=g.querySelector("rect").getBoundingClientRect(),t=g.querySelector(".label").getBoundingClientRect();return t.right>r.right+1}).length`, &outside),
		chromedp.Evaluate(`document.querySelector("svg.wide a.cite g").dispatchEvent(new MouseEvent("click",{bubbles:true}))`, nil),
		chromedp.WaitReady(`details.proof[open]`, chromedp.ByQuery),
		chromedp.Evaluate(`String(document.querySelector("details.proof[open]").id.length>1)`, &open),
		emulation.SetDeviceMetricsOverride(390, 800, 2, true),
		chromedp.Evaluate(shown("wide"), &narrowWide), chromedp.Evaluate(shown("tall"), &narrowTall),
		chromedp.Evaluate(`document.documentElement.scrollWidth - window.innerWidth`, &overflow),
	)
	if err != nil {
		t.Fatal(err)
	}
	if wide != "block" || tall != "none" || narrowWide != "none" || narrowTall != "block" {
		t.Errorf("on a desk wide is %s and tall %s, on a phone %s and %s", wide, tall, narrowWide, narrowTall)
	}
	if outside > 0 || overflow > 0 || open != "true" {
		t.Errorf("%d labels leave their boxes, %d pixels too wide, proof open: %s", outside, overflow, open)
	}
	if len(*complaints) > 0 {
		t.Errorf("the page complained: %v", *complaints)
	}
}

// TestSeveral renders a verdict over two containers; each citation is of the right package.
func TestSeveral(t *testing.T) {
	a, b := attacked(), detecttest.Busy()
	a.ID, b.ID, b.Container.Name = "a1", "b2", "web"
	pa, pb := a.Write(t), b.Write(t)
	var rs []*investigate.Result
	for _, p := range []*evidence.Package{pb, pa} {
		r, err := investigate.Investigate(context.Background(), p, investigate.Options{})
		if err != nil {
			t.Fatal(err)
		}
		rs = append(rs, r)
	}
	var out bytes.Buffer
	if err := Write(&out, investigate.Together(rs), pb, pa); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"2 containers: shop, web", investigate.RoleFirst, "sherd show shop.sherd", `class="graph wide"`} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if strings.Contains(out.String(), "not readable") || strings.Contains(out.String(), "was not given") {
		t.Error("a citation's bytes are not there")
	}
}

// TestPrints makes a PDF and looks for the bytes behind citations in it, which are closed on the screen.
func TestPrints(t *testing.T) {
	testenv.NeedTool(t, "pdftotext")
	path, _, _ := write(t, attacked())
	ctx, _ := browser(t)
	var pdf []byte
	err := chromedp.Run(ctx, chromedp.Navigate("file://"+path), chromedp.ActionFunc(func(ctx context.Context) (err error) {
		pdf, _, err = cdppage.PrintToPDF().WithPrintBackground(true).Do(ctx)
		return err
	}))
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "report.pdf")
	if err := os.WriteFile(out, pdf, 0o644); err != nil {
		t.Fatal(err)
	}
	text, err := exec.Command("pdftotext", "-layout", out, "-").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"COMPROMISED", "Root cause", "Processes", "Files that drifted", "Not seen", "203.0.113.9", "00000000", "From entry to impact", "served by", "The picture in words"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the print lacks %q", want)
		}
	}
}

// profile is a folder for the browser, whose processes may still write there for a moment after it was ended.
func profile(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sherd-browser-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for range 50 {
			if err = os.RemoveAll(dir); err == nil {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
		t.Error(err)
	})
	return dir
}
