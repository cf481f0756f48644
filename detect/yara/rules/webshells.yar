// Pages and classes that run what a request holds.

rule webshell_jsp
{
    meta:
        description = "a page of a Java server that runs what a request holds"
        severity = "critical"
        technique = "T1505.003"
        scope = "file"
        rationale = "A parameter or the body of a request becomes a command or a class."
        false_positives = "Consoles of administrators do so too; they come with the application."
        reference = "https://attack.mitre.org/techniques/T1505/003/"
    strings:
        $page = "<%"
        $jspx = "<jsp:"
        $request1 = /request\s*\.\s*(getParameter|getHeader|getReader|getInputStream)\s*\(/
        $run1 = /Runtime\s*\.\s*getRuntime\s*\(\s*\)\s*\.\s*exec\s*\(/
        $run2 = /new\s+ProcessBuilder\s*\(/
        $run3 = "ScriptEngineManager"
        $define1 = "defineClass"
        $define2 = "extends ClassLoader"
        $decode1 = "javax.crypto"
        $decode2 = "Base64"
        $decode3 = "BASE64Decoder"
    condition:
        filesize < 512KB and 1 of ($page, $jspx) and $request1 and (1 of ($run*) or 1 of ($define*) and 1 of ($decode*))
}

rule webshell_php
{
    meta:
        description = "a page of PHP that runs what a request holds"
        severity = "critical"
        technique = "T1505.003"
        scope = "file"
        rationale = "What a request holds is given to a function that runs it, as it is or decoded."
        false_positives = "Applications check and quote what they pass on; the forms looked for don't."
        reference = "https://attack.mitre.org/techniques/T1505/003/"
    strings:
        $open = "<?"
        $direct = /\b(eval|assert|system|passthru|shell_exec|exec|popen|proc_open|create_function|pcntl_exec)\s*\(\s*@?\s*(stripslashes\s*\(|base64_decode\s*\(|gzinflate\s*\(|str_rot13\s*\(|trim\s*\()*\s*\$_(GET|POST|REQUEST|COOKIE|SERVER)\b/ nocase
        $called = /\$_(GET|POST|REQUEST|COOKIE)\s*\[[^\]]{1,40}\]\s*\(\s*\$_(GET|POST|REQUEST|COOKIE)/
        $input = /\b(eval|assert|system|exec)\s*\(\s*@?\s*(base64_decode\s*\(\s*)?file_get_contents\s*\(\s*["']php:\/\/input/ nocase
        $packed = /\beval\s*\(\s*(gzinflate|gzuncompress|str_rot13|base64_decode)\s*\(\s*(base64_decode|gzinflate|str_rot13|strrev)\s*\(/ nocase
    condition:
        filesize < 2MB and $open and 1 of ($direct, $called, $input, $packed)
}

rule webshell_node
{
    meta:
        description = "a handler in JavaScript that runs what a request holds"
        severity = "high"
        technique = "T1505.003"
        scope = "file"
        rationale = "A request's query, body or header is given to a shell or evaluated."
        false_positives = "Bundles of tools hold both, far apart; the argument itself is asked for."
        reference = "https://attack.mitre.org/techniques/T1505/003/"
    strings:
        $run = /\b(exec|execSync|spawn|spawnSync)\(\s*(req|request|ctx|query|url\.parse\([^)]{1,40}\))\s*\.\s*(query|body|headers|params|request|cmd)\b/
        $eval = /\b(eval|new Function|vm\.runIn\w{3,15}Context)\(\s*(atob\(|Buffer\.from\()?\s*(req|request|ctx)\s*\.\s*(query|body|headers|params|request)\b/
        $hook = /\.(emit|_events)\b.{0,120}(headers|url).{0,300}(child_process|process\.binding\(\s*["']spawn_sync)/s
    condition:
        filesize < 4MB and uint32(0) != 0x464c457f and any of them
}

rule webshell_python
{
    meta:
        description = "a handler in Python that runs what a request holds"
        severity = "high"
        technique = "T1505.003"
        scope = "file"
        rationale = "A request's argument, form, header or body is given to a shell or evaluated."
        false_positives = "Teaching examples of the flaw; they are the image's own."
        reference = "https://attack.mitre.org/techniques/T1505/003/"
    strings:
        $run = /\b(os\.(popen|system)|subprocess\.(Popen|run|call|check_output|getoutput)|exec|eval)\(\s*(base64\.b64decode\(\s*)?(flask\.)?(self\.)?request\s*\.\s*(args|form|values|headers|data|json|GET|POST|cookies|get_data|params)\b/
        $route = /(add_url_rule|before_request_funcs|after_request_funcs|view_functions)\b.{0,200}lambda.{0,200}(os\.popen|subprocess|eval\(|exec\()/s
        $http = /def do_(GET|POST)\(.{1,500}(os\.popen|subprocess\.\w{3,14})\(\s*(self\.(headers|path|rfile)|parse_qs)/s
    condition:
        filesize < 4MB and uint32(0) != 0x464c457f and any of them
}

rule webshell_java_known
{
    meta:
        description = "a class of a known web shell for Java (Behinder, Godzilla, AntSword and their kin)"
        severity = "critical"
        technique = "T1505.003"
        memory = true
        rationale = "The name of the shell's class stands in the form of a compiled class, length before text, as no list of names holds it."
        false_positives = "The shells' own clients, on their users' machines."
        reference = "https://attack.mitre.org/techniques/T1505/003/"
    strings:
        $behinder = { 01 00 ( 17 | 18 | 19 | 1A | 1B | 1C | 1D | 1E | 1F | 20 | 21 | 22 | 23 | 24 | 25 | 26 | 27 | 28 ) 6E 65 74 2F 72 65 62 65 79 6F 6E 64 2F }
        $godzilla1 = { 01 00 ( 10 | 11 | 12 | 13 | 14 | 15 | 16 | 17 | 18 | 19 | 1A | 1B | 1C | 1D | 1E | 1F | 20 ) 73 68 65 6C 6C 73 2F 70 61 79 6C 6F 61 64 73 2F }
        $neoreg = { 01 00 ( 0A | 0B | 0C | 0D | 0E | 0F | 10 | 11 ) 4E 65 6F 72 65 47 65 6F 72 67 }
        $class = { CA FE BA BE 00 00 00 ( 2D | 2E | 2F | 30 | 31 | 32 | 33 | 34 | 35 | 36 | 37 | 38 | 39 | 3A | 3B | 3C | 3D | 3E | 3F | 40 | 41 ) }
    condition:
        $class and 1 of ($behinder, $godzilla1, $neoreg)
}

rule webshell_java_memory
{
    meta:
        description = "a class that puts itself into a running Java server as a filter, listener or valve and runs what a request holds"
        severity = "high"
        technique = "T1505.003"
        scope = "file"
        rationale = "The class names the server's inner registers of filters together with what starts a program or defines a class."
        false_positives = "Servers' own classes name the registers; they are the image's and start no programs."
        reference = "https://attack.mitre.org/techniques/T1505/003/"
    strings:
        $register1 = "filterConfigs"
        $register2 = "addFilterMapBefore"
        $register3 = "addApplicationEventListener"
        $register4 = "addFilterDef"
        $register5 = "adaptedInterceptors"
        $register6 = "registerMapping"
        $register7 = "getPipeline"
        $inner1 = "org/apache/catalina/core/StandardContext"
        $inner2 = "RequestMappingHandlerMapping"
        $inner3 = "java/lang/reflect/Field"
        $run1 = "java/lang/ProcessBuilder"
        $run2 = "java/lang/Runtime"
        $run3 = "defineClass"
        $take1 = "getParameter"
        $take2 = "getHeader"
    condition:
        uint32be(0) == 0xcafebabe and filesize < 128KB and 1 of ($register*) and 1 of ($inner*) and 1 of ($run*) and 1 of ($take*)
}
