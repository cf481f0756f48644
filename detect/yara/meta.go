package yara

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	libyara "github.com/hillu/go-yara/v4"

	"github.com/sherd-forensics/sherd/internal/printable"
	"github.com/sherd-forensics/sherd/verdict"
)

// facts are what the meta section and the tags of a rule say, by the conventions of collections at large.
type facts struct {
	description, author, reference, date string
	rationale, falseAlarms               string
	technique                            string
	severity                             verdict.Severity
	// inMemory: it is made for memory, so that a match in a process's data means what a match in a file does.
	// noMemory, noFiles: it is made for the other alone.
	inMemory, noMemory, noFiles bool
}

var words = map[string]verdict.Severity{
	"info": verdict.Info, "informational": verdict.Info, "information": verdict.Info, "notice": verdict.Info, "none": verdict.Info,
	"low": verdict.Low, "minor": verdict.Low,
	"medium": verdict.Medium, "moderate": verdict.Medium, "warning": verdict.Medium, "suspicious": verdict.Medium,
	"high": verdict.High, "alert": verdict.High, "major": verdict.High, "malicious": verdict.High, "important": verdict.High,
	"critical": verdict.Critical, "severe": verdict.Critical,
}

// ofScore grades a number from 0 to 100.
func ofScore(n int) verdict.Severity {
	switch {
	case n < 20:
		return verdict.Info
	case n < 40:
		return verdict.Low
	case n < 70:
		return verdict.Medium
	case n < 90:
		return verdict.High
	}
	return verdict.Critical
}

// ofSeverity grades a word, or a number: up to 5 of five steps, up to 10 of ten, else of a hundred.
func ofSeverity(v string) (verdict.Severity, bool) {
	v = strings.ToLower(strings.TrimSpace(v))
	if s, ok := words[v]; ok {
		return s, true
	}
	n, err := strconv.Atoi(v)
	switch {
	case err != nil || n < 0:
		return "", false
	case n <= 5:
		return ofScore(max(20*n-10, 0)), true
	case n <= 10:
		return ofScore(10*n - 5), true
	}
	return ofScore(n), true
}

var technique = regexp.MustCompile(`(?:^|[^A-Za-z0-9])[Tt](\d{4}(?:[._]\d{3})?)(?:$|[^A-Za-z0-9])`)

// attack finds the id of a technique in "T1059.004", "attack.t1059" or "mitre_T1059_004"; "" if there is none.
func attack(s string) string {
	if m := technique.FindStringSubmatch(s); m != nil {
		return "T" + strings.ReplaceAll(m[1], "_", ".")
	}
	return ""
}

// describe reads a rule's meta section and tags. Where a key stands twice, the first that can be read counts.
func describe(r *libyara.Rule) facts {
	var f facts
	scored := verdict.Severity("")
	set := func(to *string, v string) {
		if *to == "" {
			*to = printable.Clip(strings.TrimSpace(v), 400)
		}
	}
	for _, m := range r.Metas() {
		v := fmt.Sprint(m.Value)
		switch key := strings.ToLower(m.Identifier); key {
		case "description", "desc", "info", "summary", "threat_name", "malware", "malware_family", "family":
			set(&f.description, v)
		case "author", "authors":
			set(&f.author, v)
		case "reference", "references", "ref", "reference1", "url", "link", "source_url", "malpedia_reference":
			set(&f.reference, v)
		case "date", "created", "creation_date":
			set(&f.date, v)
		case "rationale":
			set(&f.rationale, v)
		case "false_positives", "falsepositives", "false_positive", "fp":
			set(&f.falseAlarms, v)
		case "severity", "threat_level", "level", "criticality":
			if s, ok := ofSeverity(v); ok && f.severity == "" {
				f.severity = s
			}
		case "score", "risk_score", "weight":
			if n, err := strconv.Atoi(strings.TrimSpace(v)); err == nil && scored == "" {
				scored = ofScore(n)
			}
		case "memory", "in_memory":
			f.inMemory = f.inMemory || v == "true" || v == "1" || v == "yes"
		case "scope", "scan_context", "context":
			f.scope(v)
		case "technique", "techniques", "attack", "mitre", "mitre_attack", "mitre_att", "mitre_attack_technique", "attack_technique", "mitre_technique", "mitre_id", "ttp":
			if f.technique == "" {
				f.technique = attack(v)
			}
		}
	}
	for _, t := range r.Tags() {
		if f.technique == "" {
			f.technique = attack(t)
		}
		switch strings.ToLower(t) {
		case "memory":
			f.inMemory = true
		case "info", "low", "medium", "high", "critical":
			if f.severity == "" && scored == "" {
				f.severity = words[strings.ToLower(t)]
			}
		}
	}
	if f.severity == "" {
		f.severity = scored
	}
	if f.severity == "" {
		f.severity = verdict.Medium
	}
	return f
}

// scope reads what a rule says of where it is to be looked for: "file", "memory", or both.
func (f *facts) scope(v string) {
	v = strings.ToLower(v)
	memory := strings.Contains(v, "memory") || strings.Contains(v, "process")
	file := strings.Contains(v, "file") || strings.Contains(v, "disk")
	switch {
	case memory && file:
		f.inMemory = true
	case memory:
		f.inMemory, f.noFiles = true, true
	case file:
		f.noMemory = true
	}
}
