// Package verdict holds what Sherd claims about a container and what proves it: findings, root cause,
// scope, impact, the story, and the gaps. It is the contract that reports, other programs and people
// read; a statement without a citation is a defect, which Check reports.
package verdict

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Schema is the version of the JSON form of Verdict.
const Schema = 1

// Judgement is the one word that a reader acts on.
type Judgement string

// The four judgements. Inconclusive is an honest answer: the evidence did not allow a better one.
const (
	Compromised  Judgement = "compromised"
	Suspicious   Judgement = "suspicious"
	Clean        Judgement = "clean"
	Inconclusive Judgement = "inconclusive"
)

// Severity grades one finding by what it would mean if its statement were the whole truth.
type Severity string

// Severities from least to most.
const (
	Info     Severity = "info"
	Low      Severity = "low"
	Medium   Severity = "medium"
	High     Severity = "high"
	Critical Severity = "critical"
)

// Rank orders severities: info is 0, critical 4, anything else -1.
func (s Severity) Rank() int {
	for i, v := range []Severity{Info, Low, Medium, High, Critical} {
		if s == v {
			return i
		}
	}
	return -1
}

// Citation points at the bytes that prove a statement: Length bytes from Offset in the artifact of that
// path inside the evidence package. SHA256 is the lower-case hex hash of the whole artifact, as in the
// package's manifest. Evidence names the package when a verdict is drawn over more than one: it is the
// package's evidence id; empty means the only one.
type Citation struct {
	Artifact string `json:"artifact"`
	Offset   int64  `json:"offset"`
	Length   int64  `json:"length"`
	SHA256   string `json:"sha256"`
	Evidence string `json:"evidence,omitempty"`
}

// Target says what was investigated.
type Target struct {
	URL         string    `json:"url,omitempty"`
	Runtime     string    `json:"runtime,omitempty"`
	ID          string    `json:"id,omitempty"`
	Name        string    `json:"name,omitempty"`
	Image       string    `json:"image,omitempty"`
	ImageDigest string    `json:"image_digest,omitempty"`
	Pod         string    `json:"pod,omitempty"`
	Namespace   string    `json:"namespace,omitempty"`
	Node        string    `json:"node,omitempty"`
	State       string    `json:"state,omitempty"`
	Started     time.Time `json:"started,omitzero"`
	Collected   time.Time `json:"collected,omitzero"`
	EvidenceID  string    `json:"evidence_id,omitempty"`
	Evidence    string    `json:"evidence,omitempty"` // the package's file name
	SHA256      string    `json:"sha256,omitempty"`   // of the package's bytes
}

// Finding is one rule's answer about this evidence.
type Finding struct {
	Rule      string     `json:"rule"`
	Severity  Severity   `json:"severity"`
	Statement string     `json:"statement"`
	Technique string     `json:"technique"` // MITRE ATT&CK id, may be empty
	Time      string     `json:"time"`      // RFC 3339 with nanoseconds, UTC; empty if unknown
	Citations []Citation `json:"citations"`
}

// Evidence is one thing that speaks for or against a conclusion.
type Evidence struct {
	Statement string     `json:"statement"`
	Citations []Citation `json:"citations"`
}

// RootCause says how they got in. Entities are IDs (see Entity.ID) of what took part. Basis names the inference rule that links
// the entry with what was found first; For and Against are what speaks for it and against it.
type RootCause struct {
	Statement  string     `json:"statement"`
	Technique  string     `json:"technique"`
	Time       string     `json:"time"`
	Confidence float64    `json:"confidence"`
	Basis      string     `json:"basis,omitempty"`
	Entities   []string   `json:"entities"`
	Citations  []Citation `json:"citations"`
	For        []Evidence `json:"for,omitempty"`
	Against    []Evidence `json:"against,omitempty"`
}

// Candidate is a way in that is possible but not established. Weight is its share among all candidates, 0 to 1.
type Candidate struct {
	Statement string     `json:"statement"`
	Time      string     `json:"time"`
	Weight    float64    `json:"weight"`
	Citations []Citation `json:"citations"`
	For       []Evidence `json:"for,omitempty"`
	Against   []Evidence `json:"against,omitempty"`
}

// Kinds of Entity.
const (
	EntityProcess    = "process"
	EntityFile       = "file"
	EntityAddress    = "address"
	EntityDomain     = "domain"
	EntityIdentity   = "identity"
	EntityContainer  = "container"
	EntityNode       = "node"
	EntityCredential = "credential"
	EntityImage      = "image"
)

// Entity is one thing that the incident touched. Value is what a machine can match: a path inside the
// container (for a process its executable's; "memfd:NAME" for one without a path), "ip:port", a domain, a
// service account's full name, a container id. PID is as the container sees it, 0 where it does not apply.
type Entity struct {
	Type      string     `json:"type"`
	Value     string     `json:"value"`
	PID       int        `json:"pid"`
	SHA256    string     `json:"sha256"`
	Role      string     `json:"role"`
	Why       string     `json:"why"`
	Citations []Citation `json:"citations"`
	// Container is the id of the container that a process, file or credential is of, in a verdict over several; empty in that on one.
	Container string `json:"container,omitempty"`
}

// ID is the entity's stable name inside one verdict: "process:/usr/lib/conv#17", "address:203.0.113.9:4444"; over several containers
// "process:/usr/lib/conv#17@75bbef2fdbc2".
func (e Entity) ID() string {
	id := e.Type + ":" + e.Value
	if e.PID != 0 {
		id = fmt.Sprintf("%s#%d", id, e.PID)
	}
	if e.Container != "" {
		id += "@" + e.Container[:min(len(e.Container), 12)]
	}
	return id
}

// Kinds of Impact.
const (
	ImpactExecution    = "execution"
	ImpactPersistence  = "persistence"
	ImpactCredential   = "credential"
	ImpactExfiltration = "exfiltration"
	ImpactResource     = "resource"
	ImpactDestruction  = "destruction"
	ImpactEscape       = "escape"
	ImpactLateral      = "lateral"
	ImpactAPI          = "api"
)

// Impact is one thing that was done, taken or put at risk.
type Impact struct {
	Type      string     `json:"type"`
	Statement string     `json:"statement"`
	Technique string     `json:"technique"`
	Citations []Citation `json:"citations"`
}

// Step is one line of the story.
type Step struct {
	Time      string     `json:"time"`
	Statement string     `json:"statement"`
	Citations []Citation `json:"citations"`
}

// Gap is something that was not seen, why, and what therefore can't be said.
type Gap struct {
	What        string `json:"what"`
	Why         string `json:"why"`
	Consequence string `json:"consequence"`
}

// Verdict is the answer to an investigation.
type Verdict struct {
	Schema     int        `json:"schema"`
	Verdict    Judgement  `json:"verdict"`
	Confidence float64    `json:"confidence"`
	Target     Target     `json:"target"`
	RootCause  *RootCause `json:"root_cause"`
	// Candidates are the possible ways in, the likeliest first, where there are several or the one that is named has rivals.
	Candidates []Candidate `json:"candidates,omitempty"`
	Scope      []Entity    `json:"scope"`
	Impact     []Impact    `json:"impact"`
	Findings   []Finding   `json:"findings"`
	Story      []Step      `json:"story"`
	Gaps       []Gap       `json:"gaps"`
	// Next are the things to do now, most urgent first. It is advice, not a claim, and needs no citation.
	Next []string `json:"next"`
	// Containers are the verdicts on each container, in the order in which they were touched, of a verdict over several; none in that on one.
	Containers []Verdict `json:"containers,omitempty"`
}

// Check reports every statement that nothing proves and every value outside its vocabulary. A verdict
// that fails it must not be shown.
func (v *Verdict) Check() error {
	var errs []error
	need := func(what string, c []Citation) {
		if len(c) == 0 {
			errs = append(errs, fmt.Errorf("%s has no citation", what))
		}
		for _, x := range c {
			if x.Artifact == "" || len(x.SHA256) != 64 || x.Offset < 0 || x.Length < 0 {
				errs = append(errs, fmt.Errorf("%s has an incomplete citation %+v", what, x))
			}
		}
	}
	switch v.Verdict {
	case Compromised, Suspicious, Clean, Inconclusive:
	default:
		errs = append(errs, fmt.Errorf("verdict %q is none of the four", v.Verdict))
	}
	if v.Confidence < 0 || v.Confidence > 1 {
		errs = append(errs, fmt.Errorf("confidence %v is outside 0..1", v.Confidence))
	}
	if rc := v.RootCause; rc != nil {
		need("root cause", rc.Citations)
		if rc.Confidence < 0 || rc.Confidence > 1 {
			errs = append(errs, fmt.Errorf("root cause confidence %v is outside 0..1", rc.Confidence))
		}
		for _, e := range slices.Concat(rc.For, rc.Against) {
			need("evidence on the root cause", e.Citations)
		}
	}
	for _, c := range v.Candidates {
		need("a candidate for the root cause", c.Citations)
		for _, e := range slices.Concat(c.For, c.Against) {
			need("evidence on a candidate", e.Citations)
		}
		if c.Weight < 0 || c.Weight > 1 {
			errs = append(errs, fmt.Errorf("a candidate's weight %v is outside 0..1", c.Weight))
		}
	}
	for i := range v.Containers {
		if err := v.Containers[i].Check(); err != nil {
			errs = append(errs, fmt.Errorf("container %d: %w", i+1, err))
		}
	}
	for _, e := range v.Scope {
		need("scope "+e.ID(), e.Citations)
	}
	for _, i := range v.Impact {
		need("impact "+i.Type, i.Citations)
	}
	for _, f := range v.Findings {
		need("finding "+f.Rule, f.Citations)
		if f.Severity.Rank() < 0 {
			errs = append(errs, fmt.Errorf("finding %s has severity %q", f.Rule, f.Severity))
		}
	}
	for i, s := range v.Story {
		need(fmt.Sprintf("story line %d", i+1), s.Citations)
	}
	return errors.Join(errs...)
}
