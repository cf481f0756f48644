/* A library such as Java programs bring along in their archives: it is loaded, and says which version of the interface it wants. */
int JNI_OnLoad(void *vm, void *reserved) {
	(void)vm;
	(void)reserved;
	return 0x00010008;
}
