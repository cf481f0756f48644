// Implants and tunnels by the names that their build leaves in them. Go keeps the paths of a program's packages, however it was stripped, unless
// it was obfuscated on purpose.

// An ELF file, or memory, which has no size.
private rule program
{
    condition:
        uint32(0) == 0x464c457f or not defined filesize
}

rule implant_sliver
{
    meta:
        description = "an implant of the framework Sliver"
        severity = "critical"
        technique = "T1071"
        rationale = "Names of Sliver's packages and messages, which only it has."
        false_positives = "None known outside of the framework itself."
        reference = "https://github.com/BishopFox/sliver"
    strings:
        $path1 = "github.com/bishopfox/sliver/implant"
        $path2 = "github.com/bishopfox/sliver/protobuf/sliverpb"
        $message1 = "sliverpb."
        $message2 = ".sliverpb.Register"
        $message3 = "BeaconTasks"
        $message4 = "ExecuteAssemblyReq"
        $message5 = "PivotPeerEnvelope"
    condition:
        program and (1 of ($path*) and 1 of ($message*) or 3 of ($message*))
}

rule implant_go_frameworks
{
    meta:
        description = "an implant of a known framework written in Go"
        severity = "critical"
        technique = "T1071"
        rationale = "The path of the agent's package names the framework."
        false_positives = "None known outside of the frameworks themselves."
        reference = "https://attack.mitre.org/techniques/T1071/"
    strings:
        $merlin = "github.com/Ne0nd0g/merlin-agent"
        $poseidon1 = "github.com/MythicAgents/poseidon"
        $poseidon2 = "poseidon/agent_code/pkg/"
        $geacon = /[a-z.]{0,40}geacon[a-z_]{0,10}\/(cmd|packet|command|core)\//
        $sandcat = "github.com/mitre/gocat/"
        $deimos = "github.com/DeimosC2/DeimosC2"
        $chaos = "github.com/tiagorlampert/CHAOS/client"
        $platypus = "github.com/WangYihang/Platypus"
        $hershell = "github.com/lesnuages/hershell"
        $reverse_ssh = "github.com/NHAS/reverse_ssh"
        $supershell = "reverse_ssh/internal/client"
    condition:
        program and any of them
}

rule implant_meterpreter
{
    meta:
        description = "a payload of Metasploit (Meterpreter)"
        severity = "critical"
        technique = "T1059"
        rationale = "Names of Meterpreter's commands and of the fields of its protocol."
        false_positives = "Metasploit itself, which no container of an application holds."
        reference = "https://github.com/rapid7/metasploit-payloads"
    strings:
        $command1 = "core_negotiate_tlv_encryption"
        $command2 = "core_channel_open"
        $command3 = "core_machine_id"
        $command4 = "stdapi_fs_file_expand_path"
        $command5 = "stdapi_sys_process_execute"
        $command6 = "stdapi_net_config_get_interfaces"
        $field1 = "TLV_META_TYPE_"
        $field2 = "TLV_TYPE_CHANNEL_ID"
        $field3 = "PACKET_TYPE_REQUEST"
        $mettle = "mettlesploit"
    condition:
        3 of ($command*) or 2 of ($field*) and 1 of ($command*) or $mettle and 1 of ($command*)
}

rule tunnel_go
{
    meta:
        description = "a tunnelling tool"
        severity = "medium"
        technique = "T1572"
        rationale = "The path of the package names a tool that carries other traffic out of, or into, a network."
        false_positives = "Administrators use these tools as well; an application's container hardly writes one for itself."
        reference = "https://attack.mitre.org/techniques/T1572/"
    strings:
        $chisel = "github.com/jpillora/chisel/"
        $ligolo1 = "github.com/nicocha30/ligolo-ng/"
        $ligolo2 = "github.com/tnpitsecurity/ligolo-ng/"
        $frp = "github.com/fatedier/frp/"
        $gost1 = "github.com/ginuerzh/gost"
        $gost2 = "github.com/go-gost/"
        $nps = "ehang.io/nps/"
        $stowaway = "Stowaway/agent"
        $iox = "iox/operate"
        $revsocks = "github.com/kost/revsocks"
        $gsocket1 = "gs-netcat"
        $gsocket2 = "GSOCKET_SECRET"
    condition:
        program and (any of ($chisel, $ligolo*, $frp, $gost*, $nps, $stowaway, $iox, $revsocks) or all of ($gsocket*))
}

rule bot_irc_flooder
{
    meta:
        description = "a bot that floods others at the word of a channel (Tsunami, Gafgyt and their kin)"
        severity = "critical"
        technique = "T1498"
        rationale = "Answers and orders of these bots, which share one source."
        false_positives = "None known; the words are those of the bots' own replies."
        reference = "https://attack.mitre.org/techniques/T1498/"
    strings:
        $tsunami1 = "NOTICE %s :TSUNAMI <target> <secs>"
        $tsunami2 = "NOTICE %s :GET <http address> <save as>"
        $tsunami3 = "NOTICE %s :Unable to comply."
        $tsunami4 = "NOTICE %s :Spoofs: %d.%d.%d.%d"
        $tsunami5 = "NOTICE %s :KILLALL"
        $gafgyt1 = "LOLNOGTFO"
        $gafgyt2 = "GETLOCALIP"
        $gafgyt3 = "SCANNER ON | OFF"
        $gafgyt4 = "HOLD Flooding %s for %d seconds."
        $gafgyt5 = "JUNK Flooding %s for %d seconds."
    condition:
        program and (2 of ($tsunami*) or 2 of ($gafgyt*))
}

rule rootkit_preload
{
    meta:
        description = "a library that hides processes or files from whoever preloads it"
        severity = "high"
        technique = "T1574.006"
        scope = "file"
        rationale = "A library that takes the place of readdir and compares with names that it is to hide."
        false_positives = "Tools that virtualise a file system (fakechroot, proot) replace readdir as well; they lack the names of processes in /proc."
        reference = "https://github.com/gianlucaborello/libprocesshider"
    strings:
        $next = "dlsym"
        $readdir1 = "readdir64"
        $readdir2 = "readdir"
        $stat = "/proc/%s/stat"
        $fd = "/proc/self/fd/%d"
        $parse = "%d (%[^)]s"
        $known1 = "process_to_filter"
        $known2 = "azazel_"
        $known3 = "HIDE_THIS_SHELL"
        $preload = "/etc/ld.so.preload"
        $hidden = "LD_PRELOAD"
    condition:
        uint32(0) == 0x464c457f and uint16(16) == 3 and filesize < 1MB and $next and any of ($readdir*)
        and ($stat and $fd and $parse or 1 of ($known*) or $preload and $hidden and $fd)
}
