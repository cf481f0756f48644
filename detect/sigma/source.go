package sigma

import (
	"slices"
	"strings"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/lake/query"
	"github.com/sherd-forensics/sherd/verdict"
)

// source is what a rule's logsource means here: which events it is about, and where they have the fields that rules name.
type source struct {
	name string
	// specs are the logsources that mean it.
	specs []logsource
	// kinds, parsers and processes of events; empty is any.
	kinds     []event.Kind
	parsers   []string
	processes []string
	// fields maps names of Sigma's taxonomy, in lower case, to values of events.
	fields map[string]*query.Field
	// open takes names that are not in fields for attributes.
	open bool
	// most is the gravest that a finding can be: who can write the text can write anything.
	most verdict.Severity
	// folders of a package that can hold such events.
	folders []string
}

// logsource is that of a rule.
type logsource struct{ product, category, service string }

func (l logsource) String() string {
	var out []string
	for _, x := range [][2]string{{"product", l.product}, {"category", l.category}, {"service", l.service}} {
		if x[1] != "" {
			out = append(out, x[0]+" "+x[1])
		}
	}
	return strings.Join(out, ", ")
}

// has reports whether an event is of the source.
func (s *source) has(e *event.Event) bool {
	return (len(s.kinds) == 0 || slices.Contains(s.kinds, e.Kind)) && (len(s.parsers) == 0 || slices.Contains(s.parsers, e.Parser)) &&
		(len(s.processes) == 0 || slices.Contains(s.processes, strings.ToLower(e.Process)))
}

// node is has for a lake.
func (s *source) node() query.Node {
	var all []query.Node
	for _, x := range []struct {
		column string
		values []string
	}{{"kind", texts(s.kinds)}, {"parser", s.parsers}, {"process", s.processes}} {
		var or []query.Node
		for _, v := range x.values {
			or = append(or, &query.Equal{Column: x.column, Text: v})
		}
		if len(or) > 0 {
			all = append(all, &query.Or{Nodes: or})
		}
	}
	return &query.And{Nodes: all}
}

func texts[T ~string](list []T) []string {
	var out []string
	for _, x := range list {
		out = append(out, string(x))
	}
	return out
}

// field finds where the events of the source have a field.
func (s *source) field(name string) (*query.Field, bool) {
	if f, ok := s.fields[strings.ToLower(name)]; ok {
		return f, true
	}
	if !s.open || name == "" || len(name) > 200 {
		return nil, false
	}
	return &query.Field{Columns: []string{"attributes." + name}}, true
}

// find gives the source of a logsource; nil and the reason where there is none.
func find(l logsource) (*source, string) {
	for i := range sources {
		if slices.Contains(sources[i].specs, l) {
			return &sources[i], ""
		}
	}
	if l == (logsource{}) {
		return nil, "it names no log source"
	}
	if l.product != "" && !slices.ContainsFunc(sources, func(s source) bool {
		return slices.ContainsFunc(s.specs, func(x logsource) bool { return x.product == l.product })
	}) {
		return nil, "no events of product " + clip(l.product, 80) + " here"
	}
	l.product, l.category, l.service = clip(l.product, 80), clip(l.category, 80), clip(l.service, 80)
	return nil, "no events of " + l.String() + " here"
}

// column is a column, or the first of several that is not empty. Attributes are written with a dot before them.
func column(names ...string) *query.Field {
	f := &query.Field{}
	for _, n := range names {
		if a, ok := strings.CutPrefix(n, "."); ok {
			n = "attributes." + a
		}
		f.Columns = append(f.Columns, n)
	}
	return f
}

func list(name, split string) *query.Field {
	f := column(name)
	f.Split, f.Side = split, query.Each
	return f
}

func part(name, split string, side query.Side) *query.Field {
	f := column(name)
	f.Split, f.Side = split, side
	return f
}

func element(name string, i int) *query.Field {
	f := column(name)
	f.Element = i
	return f
}

func otherwise(f *query.Field, value string) *query.Field { f.Default = value; return f }
func suffixed(f *query.Field, s string) *query.Field      { f.Suffix = s; return f }

// fields makes the map of a source: names with spaces between them share a value. All sources have the columns of the timeline under
// their own names, unless they map the name otherwise.
func fields(of map[string]*query.Field) map[string]*query.Field {
	out := map[string]*query.Field{}
	for _, c := range []string{"message", "container", "container_id", "image_digest", "pod", "namespace", "node", "sha256"} {
		out[c] = column(c)
	}
	for _, c := range []string{"timestamp", "@timestamp", "date"} {
		out[c] = column("time")
	}
	for names, f := range of {
		for _, n := range strings.Fields(names) {
			out[strings.ToLower(n)] = f
		}
	}
	return out
}

// Folders of a package.
var (
	ofLogs   = []string{"logs/", "added/", "host/logs/", "filesystem/upper/", "volumes/"}
	ofOthers = []string{"added/", "host/logs/", "filesystem/upper/", "volumes/", "target/kubernetes/"} // what a container's own output is not
)

var journals = []string{"syslog", "journal", "journal-export", "journal-json"}

var sources = []source{
	{
		name: "linux processes", specs: []logsource{{"linux", "process_creation", ""}, {"", "process_creation", ""}},
		kinds: []event.Kind{event.ProcessStarted}, most: verdict.Critical, folders: append([]string{"process/"}, ofOthers...),
		fields: fields(map[string]*query.Field{
			"Image ProcessPath": column("path"), "CommandLine ProcessCommandLine": column("cmdline"), "ParentImage": column(".parent"),
			"ParentCommandLine": column(".parent_cmdline"), "User": column("user"), "CurrentDirectory": column(".cwd"), "ProcessId": column("pid"),
			"ParentProcessId": column("ppid"), "ProcessName comm": column("process"), "Hashes sha256": column("sha256"), "Computer ComputerName": column("node"),
			"LogonId": column(".ses"), "euid": column(".euid"),
		}),
	},
	{
		name: "linux network connections", specs: []logsource{{"linux", "network_connection", ""}, {"", "network_connection", ""}},
		kinds: []event.Kind{event.NetConnected}, most: verdict.Critical, folders: append([]string{"network/"}, ofOthers...),
		fields: fields(map[string]*query.Field{
			"DestinationIp dst_ip": column("dst_ip"), "DestinationPort dst_port": column("dst_port"), "SourceIp src_ip": column("src_ip"),
			"SourcePort src_port": column("src_port"), "Protocol": column("protocol"), "Image": column("path", "process"), "CommandLine": column("cmdline"), "User": column("user"),
			"ProcessId": column("pid"), "direction": column(".direction"), "state": column(".state"),
		}),
	},
	{
		name: "linux files made", specs: []logsource{{"linux", "file_event", ""}, {"", "file_event", ""}},
		kinds: []event.Kind{event.FileCreated}, most: verdict.Critical, folders: append([]string{"filesystem/"}, ofOthers...),
		fields: fields(map[string]*query.Field{
			"TargetFilename FileName": column("path"), "Image": column(".exe", ".binary"), "User": column("user"), "CommandLine": column("cmdline"),
			"ProcessId": column("pid"), "Hashes": column("sha256"), "mode": column(".mode"),
		}),
	},
	{
		name: "linux files deleted", specs: []logsource{{"linux", "file_delete", ""}, {"", "file_delete", ""}},
		kinds: []event.Kind{event.FileDeleted}, most: verdict.Critical, folders: append([]string{"filesystem/"}, ofOthers...),
		fields: fields(map[string]*query.Field{
			"TargetFilename FileName": column("path"), "Image": column(".exe", ".binary"), "User": column("user"), "CommandLine": column("cmdline"), "ProcessId": column("pid"),
		}),
	},
	{
		name: "linux auditd", specs: []logsource{{"linux", "", "auditd"}}, parsers: []string{"auditd"}, most: verdict.Critical, folders: ofOthers,
		fields: auditFields(),
	},
	unit("linux sshd", "sshd", "sshd", "sshd-session", "sshd-auth"),
	unit("linux sudo", "sudo", "sudo"),
	unit("linux cron", "cron", "cron", "crond", "anacron"),
	unit("linux vsftpd", "vsftpd", "vsftpd"),
	unit("linux clamav", "clamav", "clamd", "freshclam", "clamscan"),
	unit("linux guacamole", "guacamole", "guacd", "guacamole"),
	{
		name: "linux authentication", specs: []logsource{{"linux", "", "auth"}}, parsers: journals, most: verdict.Medium, folders: ofOthers, open: true,
		processes: []string{"sshd", "sshd-session", "sshd-auth", "sudo", "su", "login", "systemd-logind", "useradd", "usermod", "userdel", "groupadd", "groupmod", "passwd", "chpasswd", "polkitd", "pkexec", "cron", "crond"},
		fields:    logFields(),
	},
	{
		name: "linux syslog", specs: []logsource{{"linux", "", "syslog"}, {"linux", "", ""}, {"linux", "", "systemd"}}, parsers: journals,
		most: verdict.Medium, folders: ofOthers, open: true, fields: logFields(),
	},
	{
		name:  "kubernetes audit",
		specs: []logsource{{"kubernetes", "application", "audit"}, {"kubernetes", "", "audit"}},
		kinds: []event.Kind{event.K8sAudit}, most: verdict.Critical, folders: ofOthers, fields: kubernetesFields(),
	},
	{
		name: "aws cloudtrail", specs: []logsource{{"aws", "", "cloudtrail"}}, parsers: []string{"cloudtrail"}, most: verdict.Critical, folders: ofOthers,
		fields: cloudtrailFields(),
	},
	{
		name: "web server requests", specs: products([]string{"", "apache", "nginx", "iis", "tomcat"}, "webserver", "", "access"),
		kinds: []event.Kind{event.HTTPRequest}, most: verdict.Low, folders: ofLogs,
		fields: fields(map[string]*query.Field{
			"cs-method http.method": column(".http_method"), "c-uri cs-uri": column(".http_path"), "cs-uri-stem": part(".http_path", "?", query.Before),
			"cs-uri-query c-uri-query": part(".http_path", "?", query.After), "sc-status": column(".http_status"), "c-ip": column("src_ip"),
			"cs-user-agent c-useragent cs(User-Agent)": column(".http_user_agent"), "cs-referer cs-referrer cs(Referer)": column(".http_referer"),
			"cs-host r-dns": column(".http_host"), "sc-bytes": column(".http_bytes"), "cs-username": column("user"), "c-port": column("src_port"),
			"x-forwarded-for": column(".http_forwarded_for"),
		}),
	},
	{
		name: "application logs",
		specs: slices.Concat(products([]string{"", "python", "django", "ruby_on_rails", "spring", "sql", "jvm", "nodejs", "java", "php", "velocity", "go", "dotnet"}, "application", ""),
			products([]string{"apache", "nginx"}, "", "", "error")),
		kinds: []event.Kind{event.LogLine, event.HTTPRequest}, parsers: []string{"containerlog", "applog", "jsonlines", "journal", "journal-export", "journal-json"},
		most: verdict.Low, folders: ofLogs, open: true, fields: logFields(),
	},
}

// products are the logsources of one category with any of the products and services.
func products(names []string, category string, services ...string) []logsource {
	var out []logsource
	for _, n := range names {
		for _, s := range services {
			if l := (logsource{n, category, s}); category != "" || s != "" {
				out = append(out, l)
			}
		}
	}
	return out
}

// unit is a program that logs to syslog or the journal.
func unit(name, service string, processes ...string) source {
	return source{name: name, specs: []logsource{{"linux", "", service}}, parsers: journals, processes: processes, most: verdict.Medium, folders: ofOthers,
		open: true, fields: logFields()}
}

func logFields() map[string]*query.Field {
	return fields(map[string]*query.Field{
		"process process_name program app-name appname": column("process"), "pid procid": column("pid"), "user USER": column("user"),
		"hostname host": column("node"), "src_ip source_ip SourceIP": column("src_ip"), "src_port": column("src_port"), "cmdline command COMMAND": column("cmdline"),
	})
}

func auditFields() map[string]*query.Field {
	of := map[string]*query.Field{
		"type": list(".type", ","), "syscall": column(".syscall"), "success": column(".success"), "exit": column(".exit"), "exe": column(".exe", "path"),
		"comm": column("process"), "key": column(".key"), "cwd": column(".cwd"), "name": list(".paths", " "), "auid": column("identity"), "uid": column("user"),
		"acct": column("user"), "euid": column(".euid"), "pid": column("pid"), "ppid": column("ppid"), "tty": column(".tty"), "ses": column(".ses"), "op": column(".op"),
		"res result": column(".result"), "terminal": column(".terminal"), "sig": column(".sig"), "subj": column(".subj"), "addr": column("src_ip"),
		"proctitle cmd CommandLine": column("cmdline"), "hostname node": column("node"), "dst_ip": column("dst_ip"), "dst_port": column("dst_port"),
	}
	for i := range 10 {
		of["a"+string(rune('0'+i))] = element(".args", i+1)
	}
	return fields(of)
}

func kubernetesFields() map[string]*query.Field {
	return fields(map[string]*query.Field{
		"verb": column(".verb"), "objectRef.resource resource": part(".resource", "/", query.Before), "objectRef.subresource subresource": part(".resource", "/", query.After),
		"objectRef.name": column(".name"), "objectRef.namespace namespace": column("namespace"), "objectRef.apiGroup apiGroup": column(".api_group"),
		"user.username username": column("identity"), "user.groups": list(".groups", ","), "impersonatedUser.username": column(".impersonated"),
		"responseStatus.code responseStatus": column(".response_code"), "userAgent": column(".http_user_agent"), "sourceIPs": column("src_ip"),
		"stage": otherwise(column(".stage"), "ResponseComplete"), "auditID": column(".audit_id"),
		"annotations.authorization.k8s.io/decision": column(".decision"), "annotations.authorization.k8s.io/reason": column(".authorized_by"),
		"requestObject.spec.containers.image requestObject.spec.template.spec.containers.image":                                                      list(".images", ","),
		"requestObject.spec.containers.securityContext.privileged requestObject.spec.template.spec.containers.securityContext.privileged privileged": column(".privileged"),
		"hostNamespaces": column(".host_namespaces"),
		"user.extra.authentication.kubernetes.io/pod-name podOfUser":   column(".pod_of_user"),
		"user.extra.authentication.kubernetes.io/node-name nodeOfUser": column(".node_of_user"), "requestReceivedTimestamp stageTimestamp": column("time"),
	})
}

func cloudtrailFields() map[string]*query.Field {
	of := map[string]*query.Field{
		"eventSource": suffixed(column(".service"), ".amazonaws.com"), "eventName": column(".operation"), "eventTime": column("time"), "eventID": column(".event_id"),
		"eventType": otherwise(column(".event_type"), "AwsApiCall"), "userIdentity.type": column(".identity_type"), "userIdentity.arn": column("identity"),
		"userIdentity.userName": column("user"), "userIdentity.accessKeyId": column(".access_key"), "userIdentity.principalId": column(".principal"),
		"userIdentity.invokedBy": column(".invoked_by"), "userIdentity.sessionContext.attributes.mfaAuthenticated": column(".mfa"),
		"userIdentity.sessionContext.sessionIssuer.arn": column(".role"), "sourceIPAddress": column("src_ip", ".source"), "userAgent": column(".http_user_agent"),
		"errorCode": column(".error_code"), "errorMessage": column(".error_message"), "awsRegion": column(".region"), "recipientAccountId": column(".account"),
		"readOnly": column(".read_only"), "vpcEndpointId": column(".vpc_endpoint"), "additionalEventData.MFAUsed": column(".mfa"),
		"responseElements.accessKey.accessKeyId": column(".created_access_key"), "responseElements.credentials.accessKeyId": column(".issued_access_key"),
	}
	// As parse/cloudtrail keeps them.
	for name, attribute := range map[string]string{
		"bucketName": "bucket", "key": "key", "roleArn": "role_requested", "roleSessionName": "session_name", "instanceId": "instance", "imageId": "image_id",
		"userName": "target_user", "roleName": "target_role", "policyArn": "policy", "policyName": "policy_name", "groupName": "group", "groupId": "security_group",
		"secretId": "secret", "functionName": "function", "keyId": "key_id", "name": "name", "clusterName": "cluster", "repositoryName": "repository",
		"trailName": "trail", "instanceType": "instance_type", "snapshotId": "snapshot", "volumeId": "volume", "documentName": "document",
	} {
		of["requestParameters."+name] = column("." + attribute)
	}
	return fields(of)
}
