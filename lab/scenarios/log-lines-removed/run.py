import os
os.listdir("/data")
