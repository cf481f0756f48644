package image

import "runtime"

const architecture = runtime.GOARCH

// NonRoot is the user that distroless images run as.
const NonRoot = 65532

// baseFiles are what every image begins with, before any package.
func baseFiles() []File {
	return []File{
		{Path: "/tmp", Dir: true, Mode: 0o1777},
		{Path: "/root", Dir: true, Mode: 0o700},
		{Path: "/home/nonroot", Dir: true, Mode: 0o700, UID: NonRoot},
		{Path: "/etc/passwd", Mode: 0o644, Data: []byte("root:x:0:0:root:/root:/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n")},
		{Path: "/etc/group", Mode: 0o644, Data: []byte("root:x:0:\nnobody:x:65534:\ntty:x:5:\nstaff:x:50:\nnonroot:x:65532:\n")},
		{Path: "/etc/nsswitch.conf", Mode: 0o644, Data: []byte("hosts: files dns\n")},
		{Path: "/usr/lib/os-release", Mode: 0o644, Data: []byte(osRelease)},
		{Path: "/etc/os-release", Mode: 0o777, Link: "../usr/lib/os-release"},
	}
}

const osRelease = `PRETTY_NAME="Distroless"
NAME="Debian GNU/Linux"
ID="debian"
VERSION_ID="12"
VERSION="Debian GNU/Linux 12 (bookworm)"
HOME_URL="https://github.com/GoogleContainerTools/distroless"
SUPPORT_URL="https://github.com/GoogleContainerTools/distroless/blob/master/README.md"
BUG_REPORT_URL="https://github.com/GoogleContainerTools/distroless/issues/new"
`

// The packages of each kind of base image, lowest layer first.
var (
	// Static suits programs without a C library.
	Static = []string{"base-files", "netbase", "tzdata", "ca-certificates", "media-types"}
	// C adds glibc and OpenSSL.
	C = concat(Static, "libc6", "libgcc-s1", "libssl3", "zlib1g")
	// Python3 adds the interpreter and its standard library.
	Python3 = concat(C, "libexpat1", "libbz2-1.0", "liblzma5", "libffi8", "libsqlite3-0", "libuuid1", "libdb5.3", "libtinfo6", "libncursesw6",
		"libcrypt1", "libcom-err2", "libreadline8", "libpython3.11-minimal", "libpython3.11-stdlib", "python3.11-minimal")
	// Node adds Node.js.
	Node = concat(C, "libstdc++6", "libbrotli1", "libc-ares2", "libicu72", "libnghttp2-14", "libuv1", "libnode108",
		"node-acorn", "node-busboy", "node-cjs-module-lexer", "node-undici", "node-xtend", "nodejs")
	// Java17 adds the virtual machine with the whole of its modules. What draws, prints and plays needs more libraries.
	Java17 = concat(C, "libstdc++6", "openjdk-17-jre-headless")
)

// JavaLink is the link that Debian makes when Java is configured.
func JavaLink() File {
	return File{Path: "/usr/bin/java", Mode: 0o777, Link: "../lib/jvm/java-17-openjdk-" + architecture + "/bin/java"}
}

func concat(list []string, more ...string) []string {
	return append(append([]string{}, list...), more...)
}
