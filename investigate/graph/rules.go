package graph

import "slices"

// Rule is a declared inference: an edge exists because one of these says so, and for no other reason.
type Rule struct {
	Name string
	Verb Verb
	// Concludes and From say in words what follows from what.
	Concludes, From string
	// Confidence is that of an edge of this rule at best; one edge may have less.
	Confidence float64
	Why        string
	// Backward rules have an effect as their subject: a process executed a file that was there before it.
	Backward bool
}

// Names of the rules.
const (
	ProcessParent      = "process-parent"
	ProcessRunsFile    = "process-runs-file"
	ProcessMapsFile    = "process-maps-file"
	ProcessHoldsFile   = "process-holds-file"
	ProcessConnected   = "process-connected"
	ProcessAccepted    = "process-accepted"
	ProcessListens     = "process-listens"
	ProcessTraces      = "process-traces"
	ProcessIdentity    = "process-identity"
	ProcessInContainer = "process-in-container"
	ProgramGone        = "program-deleted-after-start"
	OneWriter          = "file-of-the-only-writer"
	SecretReadable     = "secret-readable"
	SecretRead         = "secret-read-since"
	ContainerOfImage   = "container-of-image"
	ContainerOnHost    = "container-on-host"
	RequestLogged      = "request-logged"
	RequestFrom        = "request-from"
	RequestNamesFile   = "request-names-file"
	RequestAlone       = "request-alone"
	RequestsOfOne      = "requests-of-one-client"
	RequestStandsOut   = "request-stands-out"
	RequestNear        = "request-near"
	IdentityCalled     = "identity-called"
	ContainerReached   = "container-reached"
)

// Rules are all inference rules. Those of requests get their confidence from what the corpus of real attacks showed; see
// docs/verdict.md.
func Rules() []Rule { return slices.Clone(rules) }

var rules = declared()

func declared() []Rule {
	return []Rule{
		{ProcessParent, Started, "a process started another", "the parent's number in the kernel's table of processes", 1, "The kernel keeps it; only the first process may have adopted a child whose parent ended, which is said with 0.6.", false},
		{ProcessRunsFile, Executed, "a process executed a file", "the kernel's link to the program of the process", 1, "The link leads to the file itself, whatever became of its name.", true},
		{ProcessMapsFile, Mapped, "a process mapped a file as code", "an executable mapping of a file that the image does not hold", 1, "The kernel keeps which file lies behind a mapping.", true},
		{ProcessHoldsFile, Opened, "a process opened a file", "a descriptor of a deleted program or of a file in memory", 1, "Descriptors are the kernel's.", false},
		{ProcessConnected, Connected, "a process connected to an address", "a socket whose descriptor the process holds", 1, "The kernel's table of sockets, tied by inode to the holder.", false},
		{ProcessAccepted, Connected, "an address connected to a process", "a socket on a port on which the process listens", 1, "A connection on a listener's own port was opened from the other end.", false},
		{ProcessListens, Listened, "a process listened on a port", "a listening socket whose descriptor the process holds", 1, "The kernel's table of sockets.", false},
		{ProcessTraces, Injected, "a process can write into another", "the tracer's number in the kernel's table of processes", 0.9, "A tracer reads and writes all memory of what it traces; that it did is not recorded.", false},
		{ProcessIdentity, UsedIdentity, "a process used an identity", "the effective user of the process", 1, "The kernel keeps it.", false},
		{ProcessInContainer, Started, "a container started a process", "the first process of its control group", 1, "The runtime starts the first process, and all others descend from it.", false},
		{ProgramGone, Deleted, "a process's program was deleted after the start", "a program without a name, whose last change lies after the start of the process", 0.5, "Whoever shares the folder could have removed it; mostly it was the program itself.", false},
		{OneWriter, Wrote, "a process wrote a file", "the file belongs to the user of the only process that served requests when it was born", 0.6, "Nothing records who wrote; a process that ended since may have had the same user.", false},
		{SecretReadable, CouldRead, "a process could read a secret", "user, groups and capabilities of the process, and owner and mode of the file or environment", 1, "It says what was within reach, not that it was taken.", false},
		{SecretRead, Opened, "a secret was read since they came", "its time of access lies after the first foreign thing", 0.5, "The application may have read it itself, and mounts without times of access tell nothing.", false},
		{ContainerOfImage, Started, "a container was made from an image", "the runtime's record", 1, "The runtime keeps the image's digest.", false},
		{ContainerOnHost, Started, "a host ran a container", "the host's name at the capture", 1, "It is where the evidence was taken.", false},
		{RequestLogged, Logged, "a process served a request", "a line of the container's log, and exactly one program of the image that listens", 0.9, "A line proves that something could write to the log; the only listener is whom a request reaches.", true},
		{RequestFrom, Sent, "an address sent a request", "the client that the line names", 0.9, "It is the application's word, and a proxy may stand between; 0.3 where the line is not in the application's own form.", false},
		{RequestNamesFile, LedTo, "a request led to a file", "its path names the file, and it was logged from 10 s before to 5 s after the file came or changed", CauseConfidence(RequestNamesFile), "Chance does not name a file at the moment of its birth.", false},
		{RequestAlone, LedTo, "a request led to what was first found", "it is the only one within 2 s on a route that was hardly ever served", CauseConfidence(RequestAlone), "Routes that are served all day without harm don't stand out. How often such a request falls into a stretch of 4 s by chance lowers it, where the log is long enough to tell.", false},
		{RequestsOfOne, LedTo, "one of a client's requests led to what was first found", "two to four requests within 2 s on routes that were hardly ever served, all of one client", CauseConfidence(RequestsOfOne), "The client is what they have in common; which of them did it is not said.", false},
		{RequestStandsOut, LedTo, "a request led to what was found", "it alone, in all of the log, changed something on a route that was hardly ever served, and succeeded; nothing that was found has a time", CauseConfidence(RequestStandsOut), "Nothing but its being alone speaks for it.", false},
		{RequestNear, LedTo, "a request may have led to what was first found", "it was logged within 2 s, beside others", CauseConfidence(RequestNear), "A candidate and no more: no root cause is named by it.", false},
		{IdentityCalled, UsedIdentity, "the container's identity called an API", "lines of an audit log under its service account or role", 0.9, "Whoever holds the credential can call from elsewhere; the line's source address tells.", false},
		{ContainerReached, Connected, "one container reached another", "the request that entered one came from an address that only the other has, or a process of the intruder's in one had a connection with such an address of the other", 0.9, "An address can change hands between two captures.", false},
	}
}

// RuleOf is the rule of a name; ok is false if there is none.
func RuleOf(name string) (r Rule, ok bool) {
	if i := slices.IndexFunc(rules, func(r Rule) bool { return r.Name == name }); i >= 0 {
		return rules[i], true
	}
	return Rule{}, false
}
