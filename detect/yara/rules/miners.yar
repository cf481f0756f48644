// Programs that mine coins on somebody else's machine: what the miners, their configurations and their protocols have in common.

// An ELF file, or memory, which has no size.
private rule program
{
    condition:
        uint32(0) == 0x464c457f or not defined filesize
}

rule coinminer_xmrig
{
    meta:
        description = "the miner XMRig or a program made of it"
        severity = "high"
        technique = "T1496"
        rationale = "XMRig's own addresses, options and names of algorithms stand together in no other program."
        false_positives = "A security tool that lists miners holds single ones of these strings; several of each kind are asked for."
        reference = "https://xmrig.com/docs/miner/config"
    strings:
        $site1 = "donate.v2.xmrig.com"
        $site2 = "donate.ssl.xmrig.com"
        $site3 = "xmrig.com/benchmark"
        $site4 = "xmrig.com/wizard"
        $option1 = "donate-over-proxy"
        $option2 = "randomx-1gb-pages"
        $option3 = "huge-pages-jit"
        $option4 = "cpu-max-threads-hint"
        $option5 = "donate-level"
        $option6 = "randomx-wrmsr"
        $algo1 = "cn-heavy/xhv"
        $algo2 = "cn-pico/trtl"
        $algo3 = "rx/arq"
        $algo4 = "astrobwt"
        $algo5 = "cryptonight"
    condition:
        program and (1 of ($site*) and 2 of ($option*) or 3 of ($option*) and 2 of ($algo*))
}

rule coinminer_configuration
{
    meta:
        description = "the configuration of a coin miner"
        severity = "high"
        technique = "T1496"
        scope = "file"
        rationale = "The keys are those of miners' configuration files, the address is that of a pool."
        false_positives = "Documentation of a miner holds an example of one; it lies in images, not in what a container wrote."
        reference = "https://xmrig.com/docs/miner/config"
    strings:
        $pools = "\"pools\""
        $donate = "\"donate-level\""
        $coin = /"(coin|algo)"\s*:\s*("[a-z0-9\/_-]{1,24}"|null)/
        $rig = "\"rig-id\""
        $nicehash = "\"nicehash\""
        $keepalive = "\"keepalive\""
        $url = /"url"\s*:\s*"[^"\s]{3,200}:\d{2,5}"/
    condition:
        filesize < 256KB and $pools and $url and 2 of ($donate, $coin, $rig, $nicehash, $keepalive)
}

rule coinminer_pool_protocol
{
    meta:
        description = "a client of mining pools (Stratum)"
        severity = "high"
        technique = "T1496"
        rationale = "A program with both the methods of the protocol and the scheme of its addresses talks to mining pools."
        false_positives = "Servers of pools and wallets speak the protocol too; such are the image's own programs."
        reference = "https://en.bitcoin.it/wiki/Stratum_mining_protocol"
    strings:
        $scheme1 = "stratum+tcp://"
        $scheme2 = "stratum+ssl://"
        $scheme3 = "stratum+tls://"
        $method1 = "mining.subscribe"
        $method2 = "mining.authorize"
        $method3 = "mining.submit"
        $method4 = "mining.notify"
        $method5 = "mining.set_difficulty"
        $monero1 = "\"keepalived\""
        $monero2 = "job_id"
        $monero3 = "\"nonce\""
    condition:
        3 of ($method*) or 1 of ($scheme*) and (2 of ($method*) or 2 of ($monero*))
}

rule coinminer_start
{
    meta:
        description = "a script that starts a coin miner"
        severity = "high"
        technique = "T1496"
        scope = "file"
        rationale = "A pool's address beside the options with which a miner is started."
        false_positives = "Lists of pools' names, as filters hold them, lack the options."
        reference = "https://xmrig.com/docs/miner/command-line-options"
    strings:
        $pool1 = /[a-z0-9.-]*(supportxmr\.com|moneroocean\.stream|nanopool\.org|2miners\.com|hashvault\.pro|c3pool\.(com|org)|minexmr\.com|herominers\.com|unmineable\.com|f2pool\.com|nicehash\.com|xmrpool\.eu):\d{2,5}/
        $pool2 = "stratum+"
        $option1 = " --donate-level"
        $option2 = " --randomx-"
        $option3 = " --cpu-max-threads-hint"
        $option4 = /\s(-a|--algo)[ =](rx|cn|argon2|kawpow|ethash|randomx)/
        $option5 = /\s-u\s+(4[0-9AB][1-9A-HJ-NP-Za-km-z]{93}|8[1-9A-HJ-NP-Za-km-z]{94})/
    condition:
        filesize < 1MB and uint32(0) != 0x464c457f and 1 of ($pool*) and 1 of ($option*)
}
