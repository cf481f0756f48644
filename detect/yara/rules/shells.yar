// Reverse shells in the languages that distroless images bring, and loaders of programs without a file. Each asks for the connection, for the shell,
// and for what joins the two, close to one another.

rule reverse_shell_python
{
    meta:
        description = "a reverse shell in Python"
        severity = "high"
        technique = "T1059.006"
        rationale = "A socket is connected, put onto the standard streams, and a shell or a pseudo terminal is started."
        false_positives = "Servers that start a terminal for a user who logs in accept connections rather than make them."
        reference = "https://attack.mitre.org/techniques/T1059/006/"
    strings:
        $dup = /\.connect\(\(.{1,200}dup2\(\s*[\w.]{1,40}\(\)\s*,\s*0\s*\).{0,400}(\/bin\/(ba|da|a|z|k)?sh|pty\.spawn|subprocess)/s
        $each = /\.connect\(\(.{1,200}\[\s*os\.dup2\(\s*[\w.]{1,40}\(\)\s*,\s*\w{1,20}\s*\)\s*for .{0,400}(\/bin\/(ba|da|a|z|k)?sh|pty\.spawn)/s
        $loop = /\.connect\(\(.{1,300}while .{0,100}\.recv\(\d{2,6}\).{0,300}(subprocess\.(Popen|check_output|run|getoutput)|os\.popen)\(.{0,300}\.send(all)?\(/s
    condition:
        any of them
}

rule reverse_shell_perl_ruby
{
    meta:
        description = "a reverse shell in Perl or Ruby"
        severity = "high"
        technique = "T1059"
        rationale = "A socket is connected, put onto the standard streams, and a shell is started."
        false_positives = "None known."
        reference = "https://attack.mitre.org/techniques/T1059/"
    strings:
        $perl1 = /connect\(\s*\w{1,10}\s*,\s*(pack_)?sockaddr_in\(.{1,200}open\(\s*STDIN\s*,\s*["']>&\w{1,10}["']\).{0,300}exec/s
        $perl2 = /IO::Socket::INET(->|6->|\s).{1,200}(fdopen|open\(STDIN).{0,300}(system|exec)/s
        $ruby = /TCPSocket\.(new|open)\(.{1,120}(exec|spawn|IO\.popen)[ (].{0,200}(\/bin\/(ba)?sh|gets|cmd)/s
    condition:
        any of them
}

rule reverse_shell_node
{
    meta:
        description = "a reverse shell in JavaScript"
        severity = "high"
        technique = "T1059.007"
        scope = "file"
        rationale = "A shell's streams are piped into a connection that the script makes."
        false_positives = "Terminals in a browser pipe a shell into a connection that a user made, over a web socket."
        reference = "https://attack.mitre.org/techniques/T1059/007/"
    strings:
        $shell = /(spawn|exec|execFile)\(\s*["'`](\/bin\/)?(ba|da|a|z)?sh["'`]/
        $out = /\.pipe\(\s*\w{1,20}\.stdin\s*\)/
        $in = /\.stdout\.pipe\(\s*\w{1,20}\s*\)/
        $connect = /\.connect\(\s*(\d{2,5}|\{|port|\w{1,20})\s*[,:]/
        $net = /require\(\s*["'`](node:)?(net|tls)["'`]\s*\)/
    condition:
        filesize < 1MB and all of them
}

rule reverse_shell_php
{
    meta:
        description = "a reverse shell in PHP"
        severity = "high"
        technique = "T1059"
        rationale = "A socket is opened and a shell is started on it."
        false_positives = "None known."
        reference = "https://attack.mitre.org/techniques/T1059/"
    strings:
        $short = /fsockopen\(.{1,120}(exec|shell_exec|system|passthru|popen|proc_open)\(.{0,80}\/bin\/(ba)?sh/s
        $long1 = "fsockopen("
        $long2 = "proc_open("
        $long3 = "stream_select("
        $long4 = "stream_set_blocking("
        $shell = /\/bin\/(ba)?sh -i/
    condition:
        $short or all of ($long*) and $shell
}

rule reverse_shell_command
{
    meta:
        description = "a reverse shell made of what a system brings (bash, netcat, openssl, socat)"
        severity = "high"
        technique = "T1059.004"
        rationale = "A shell's streams are joined with a connection."
        false_positives = "Requests of scanners hold such lines; in logs and in a server's data they are graded low."
        reference = "https://attack.mitre.org/techniques/T1059/004/"
    strings:
        $bash = /(ba|z|k)?sh\s+-i\s*(>&|&>|>)\s*\/dev\/(tcp|udp)\/[^\s\/]{4,80}\/\d{1,5}\s+0(>&|<&)\s*1/
        $exec = /exec\s+\d{1,3}<>\s*\/dev\/(tcp|udp)\/[^\s\/]{4,80}\/\d{1,5}.{0,120}(sh|cat)\b/
        $fifo = /mkfifo\s+\S{1,80}\s*;.{0,120}\/bin\/(ba)?sh\s+-i\s+2>&1\s*\|\s*(nc|ncat|netcat|openssl|telnet|busybox)\b/
        $nc = /\b(nc|ncat|netcat)(\.traditional|\.openbsd)?\s+(-\w+\s+){0,3}(-e|-c)\s*\/bin\/(ba)?sh\b/
        $socat = /socat\s.{0,120}(exec|EXEC|system|SYSTEM):['"]?\/?(bin\/)?(ba)?sh.{0,60}pty/
    condition:
        any of them
}

rule reverse_shell_java
{
    meta:
        description = "a class of Java that joins a shell with a connection"
        severity = "high"
        technique = "T1059"
        scope = "file"
        rationale = "A small class that opens a socket, starts a shell and copies the streams of one into the other."
        false_positives = "Libraries for remote terminals are larger and hold more than one class."
        reference = "https://attack.mitre.org/techniques/T1059/"
    strings:
        $socket = "java/net/Socket"
        $start1 = "java/lang/ProcessBuilder"
        $start2 = "java/lang/Runtime"
        $shell1 = "/bin/sh"
        $shell2 = "/bin/bash"
        $in = "getInputStream"
        $out = "getOutputStream"
        $copy = "available"
    condition:
        uint32be(0) == 0xcafebabe and filesize < 32KB and $socket and 1 of ($start*) and 1 of ($shell*) and $in and $out and $copy
}

rule loader_memfd_script
{
    meta:
        description = "a script that runs a program from memory (memfd_create)"
        severity = "high"
        technique = "T1620"
        scope = "file"
        rationale = "The system call is made by its number, for interpreters have no name for it, and what was written is run through /proc."
        false_positives = "None known in scripts; programs such as container runtimes do so in machine code."
        reference = "https://man7.org/linux/man-pages/man2/memfd_create.2.html"
    strings:
        $python1 = /syscall\(\s*(319|279)\s*,/
        $python2 = /os\.memfd_create\(/
        $perl = /syscall\s*\(?\s*(319|279)\s*,\s*(my\s+)?\$/
        $path1 = /\/proc\/(self|\$\$|\{?\w{0,12}\}|%d|"\s?\.\s?\$\$\s?\.\s?")\/fd\//
        $run1 = /os\.(execve?|execl|execvp?e?|fexecve|spawnv)\(/
        $run2 = /subprocess\.(Popen|run|call)\(/
        $run3 = /exec\s*\{?\s*["'$]/
    condition:
        filesize < 4MB and uint32(0) != 0x464c457f and 1 of ($python*, $perl) and $path1 and 1 of ($run*)
}

rule loader_ddexec
{
    meta:
        description = "a script that overwrites its own process's memory to run another program (DDexec and its kin)"
        severity = "critical"
        technique = "T1055"
        scope = "file"
        rationale = "A process's memory is written through /proc/self/mem from a script, at an address computed there."
        false_positives = "Debuggers are programs, not scripts."
        reference = "https://github.com/arget13/DDexec"
    strings:
        $mem1 = "/proc/self/mem"
        $mem2 = "/proc/$$/mem"
        $syscall = "/proc/self/syscall"
        $maps = "/proc/self/maps"
        $seek = /(seek|lseek|tail -c|dd\s.{0,60}seek=|\.seek\()/
        $vdso = "vdso"
        $stager = /(shellcode|\\x0f\\x05|0f05)/ nocase
    condition:
        filesize < 1MB and uint32(0) != 0x464c457f and 1 of ($mem*) and $seek and ($syscall or $vdso and $maps or $stager and $maps)
}
