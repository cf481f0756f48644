rule packed_upx
{
    meta:
        description = "an ELF program packed with UPX"
        severity = "medium"
        technique = "T1027.002"
        scope = "file"
        rationale = "Packing hides what a program holds from whoever looks at the file. Programs that are packed on purpose come with the image."
        false_positives = "Vendors pack programs too, then they are the image's own and graded info."
        reference = "https://upx.github.io"
    strings:
        $magic = "UPX!"
        $info = "$Info: This file is packed with the UPX executable packer"
    condition:
        uint32(0) == 0x464c457f and #magic >= 2 and ($info or $magic in (0 .. 1024))
}
