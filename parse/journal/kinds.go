package journal

import (
	"github.com/sherd-forensics/sherd/event"
)

// meaning is what a message of a known number says, and which program's it is: anybody can send the number.
type meaning struct {
	kind event.Kind
	comm string // as the kernel names it, which keeps 15 bytes
}

// meanings of MESSAGE_ID, as systemd's catalog has them: https://github.com/systemd/systemd/blob/main/catalog/systemd.catalog.in
var meanings = map[string]meaning{
	"39f53479d3a045ac8e11786248231fbf": {event.ServiceState, "systemd"},          // a unit started
	"9d1aaa27d60140bd96365438aad20286": {event.ServiceState, "systemd"},          // a unit stopped
	"be02cf6855d2428ba40df7e9d022f03d": {event.ServiceState, "systemd"},          // a unit failed to start
	"d9b373ed55a64feb8242e02dbe79a49c": {event.ServiceState, "systemd"},          // a unit failed
	"8d45620c1a4348dbb17410da57c60c66": {event.Login, "systemd-logind"},          // a session began
	"3354939424b4456d9802ca8333ed424a": {event.Logout, "systemd-logind"},         // a session ended
	"98268866d1d54a499c4e98921d93bc40": {event.SystemStopped, "systemd"},         // shutdown
	"fc2e22bc6ee647b6b90729ab34a250b1": {event.ProcessDumped, "systemd-coredum"}, // a core
}

// podman is what its events mean, where the journal keeps them.
var podman = map[string]event.Kind{
	"container/create": event.ContainerCreated, "container/start": event.ContainerStarted, "container/died": event.ContainerExited, "container/exec": event.ContainerExec,
	"container/remove": event.ContainerDeleted, "image/pull": event.ImagePulled, "image/build": event.ImageBuilt,
}

// known gives the kind of entries whose fields say what happened, and their columns.
func (w *writer) known(e *event.Event, j *entry) {
	if j.get("_TRANSPORT") == "kernel" {
		e.Kind = event.KernelLine
		return
	}
	if what := j.get("PODMAN_EVENT"); what != "" {
		kind := j.get("PODMAN_TYPE")
		if k, ok := podman[kind+"/"+what]; ok {
			e.Kind = k
		}
		if kind == "container" {
			e.ContainerID, e.Container = w.take(j, "PODMAN_ID"), w.take(j, "PODMAN_NAME")
		}
		return
	}
	id := j.get("MESSAGE_ID")
	if id == "" {
		return
	}
	m, ok := meanings[id]
	if !ok || j.get("_COMM") != m.comm {
		return
	}
	e.Kind = m.kind
	switch m.kind {
	case event.Login, event.Logout:
		if u := w.take(j, "USER_ID"); u != "" {
			w.a.String("uid", e.User)
			e.User = u
		}
	case event.ProcessDumped:
		// The columns are those of the process that died, not of the one that took the core.
		e.PID, e.Process, e.Path, e.Cmdline = number(w.take(j, "COREDUMP_PID")), w.take(j, "COREDUMP_COMM"), w.take(j, "COREDUMP_EXE"), w.take(j, "COREDUMP_CMDLINE")
		if u := w.take(j, "COREDUMP_UID"); u != "" {
			e.User = u
		}
	}
}

// take is the value of a field that goes to a column, and so is no attribute.
func (w *writer) take(j *entry, name string) string {
	w.columns[name] = true
	return j.get(name)
}
