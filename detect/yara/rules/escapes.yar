// Ways out of a container, and tools that look for them.

// An ELF file, or memory, which has no size.
private rule program
{
    condition:
        uint32(0) == 0x464c457f or not defined filesize
}

rule escape_release_agent
{
    meta:
        description = "an escape through the release agent of control groups"
        severity = "critical"
        technique = "T1611"
        scope = "file"
        rationale = "The file that names a program which the kernel starts on the node is written, and notification is switched on."
        false_positives = "Init systems know both names; none of them writes them from a script."
        reference = "https://blog.trailofbits.com/2019/07/19/understanding-docker-container-escapes/"
    strings:
        $agent = /(>|write|open\().{0,80}release_agent/
        $notify = "notify_on_release"
        $procs = "cgroup.procs"
        $mount = /mount\s.{0,40}-t\s*cgroup/
        $upper = "upperdir="
    condition:
        filesize < 1MB and uint32(0) != 0x464c457f and $agent and 2 of ($notify, $procs, $mount, $upper)
}

rule escape_runtime_socket
{
    meta:
        description = "a script that starts a container with the node's root through a runtime's socket"
        severity = "critical"
        technique = "T1610"
        scope = "file"
        rationale = "A container is asked for, over the socket of the runtime, that is privileged or has the node's root mounted."
        false_positives = "Tools that build or watch containers ask for neither from a script."
        reference = "https://attack.mitre.org/techniques/T1610/"
    strings:
        $socket1 = "docker.sock"
        $socket2 = "containerd.sock"
        $socket3 = "crio.sock"
        $create1 = "/containers/create"
        $create2 = /\b(docker|nerdctl|ctr|crictl)\s[^\n]{0,120}\srun\s/
        $root1 = /"(Binds|Source|HostPath|hostPath|host_path)"\s*:\s*(\[\s*)?"\/(:|")/
        $root2 = /(-v|--volume|--mount)[ =]["']?\/:\//
        $root3 = /"Privileged"\s*:\s*true/
        $root4 = " --privileged"
    condition:
        filesize < 1MB and uint32(0) != 0x464c457f and 1 of ($socket*) and 1 of ($create*) and 1 of ($root*)
}

rule escape_core_pattern
{
    meta:
        description = "an escape through the pattern of core dumps"
        severity = "critical"
        technique = "T1611"
        scope = "file"
        rationale = "The kernel starts on the node what the pattern names behind a bar; this one is written to name a file of the container's."
        false_positives = "Crash reporters set a pattern too, with a path of the node's own."
        reference = "https://man7.org/linux/man-pages/man5/core.5.html"
    strings:
        $file = "/proc/sys/kernel/core_pattern"
        $bar1 = "|/proc/%P/root/"
        $bar2 = /\|\/.{0,200}\/(merged|diff|upper|rootfs)\//
        $crash = /(kill\s+-(11|SEGV|ABRT|6)|SIGSEGV|SIGABRT|os\.abort|raise\()/
    condition:
        filesize < 16MB and $file and ($bar1 or $bar2 and $crash)
}

rule escape_runc_exe
{
    meta:
        description = "an escape by overwriting runc through /proc/self/exe"
        severity = "critical"
        technique = "T1611"
        scope = "file"
        rationale = "A script whose interpreter is /proc/self/exe makes the runtime run itself, so that it can be opened and written."
        false_positives = "No honest script has that interpreter; it must stand at the beginning of a file, or beside the loop that looks for runc."
        reference = "https://nvd.nist.gov/vuln/detail/CVE-2019-5736"
    strings:
        $bang = "#!/proc/self/exe"
        $runc = "runc"
        $cmdline = /\/cmdline/
        $fd = "/proc/self/fd/"
        $trunc = "O_WRONLY"
    condition:
        filesize < 16MB and ($bang at 0 or $bang and $runc and $cmdline and 1 of ($fd, $trunc))
}

rule tool_container_escape
{
    meta:
        description = "a tool that looks for ways out of containers and through clusters"
        severity = "high"
        technique = "T1611"
        rationale = "The name of the tool's package or of its own output."
        false_positives = "Testers use these tools with leave; that they run is worth a question all the same."
        reference = "https://attack.mitre.org/techniques/T1611/"
    strings:
        $cdk1 = "github.com/cdk-team/CDK/"
        $cdk2 = "cdk-team/CDK/pkg/exploit"
        $deepce1 = "Docker Enumeration, Escalation of Privileges and Container Escapes"
        $deepce2 = "deepce.sh"
        $amicontained = "github.com/genuinetools/amicontained"
        $botb = "github.com/brompwnie/botb"
        $peirates = "github.com/inguardians/peirates"
        $kubeletctl = "github.com/cyberark/kubeletctl"
        $kubehound = "kube-hunter/kube_hunter"
        $traitor = "github.com/liamg/traitor"
        $pspy = "github.com/dominicbreuker/pspy"
        $peass1 = "PEASS-ng"
        $peass2 = "LinPEAS"
    condition:
        any of ($cdk*, $amicontained, $botb, $peirates, $kubeletctl, $kubehound, $traitor, $pspy) or all of ($deepce*) or all of ($peass*)
}

rule tool_network_scanner
{
    meta:
        description = "a scanner of networks"
        severity = "medium"
        technique = "T1046"
        rationale = "The name of the tool's package, or its options and output."
        false_positives = "Administrators scan as well; an application's container hardly writes a scanner for itself."
        reference = "https://attack.mitre.org/techniques/T1046/"
    strings:
        $fscan1 = "github.com/shadow1ng/fscan"
        $fscan2 = "fscan/Plugins"
        $naabu = "github.com/projectdiscovery/naabu"
        $nuclei = "github.com/projectdiscovery/nuclei"
        $masscan1 = "--adapter-port"
        $masscan2 = "masscan"
        $masscan3 = "--echo-all"
        $zmap1 = "--target-port"
        $zmap2 = "zmap"
        $zmap3 = "--probe-module"
    condition:
        program and (any of ($fscan*, $naabu, $nuclei) or all of ($masscan*) or all of ($zmap*))
}

rule secrets_taken_by_script
{
    meta:
        description = "a script that takes the tokens of a pod or the credentials of a machine and sends them away"
        severity = "high"
        technique = "T1552"
        scope = "file"
        rationale = "The places of credentials stand in a script beside what sends data out."
        false_positives = "Clients of a cloud read one of these places and talk to the cloud; two kinds of places are asked for."
        reference = "https://attack.mitre.org/techniques/T1552/"
    strings:
        $place1 = "/var/run/secrets/kubernetes.io/serviceaccount/token"
        $place2 = "169.254.169.254/latest/meta-data/iam/security-credentials"
        $place3 = "metadata.google.internal/computeMetadata"
        $place4 = "/.aws/credentials"
        $place5 = "/.docker/config.json"
        $place6 = "/.kube/config"
        $place7 = "/proc/1/environ"
        $place8 = "/proc/self/environ"
        $place9 = "/.ssh/id_rsa"
        $send1 = /curl\s.{0,200}(-d|--data\S{0,12}|-F|-T|--upload-file)[ =]/
        $send2 = /requests\.(post|put)\(/
        $send3 = /urlopen\(.{0,200}data\s*=/s
        $send4 = /fetch\(.{0,200}method\s*:\s*["'](POST|PUT)/s
        $send5 = /\.sendall\(/
        $send6 = "/dev/tcp/"
    condition:
        filesize < 512KB and uint32(0) != 0x464c457f and 3 of ($place*) and 1 of ($send*)
}
