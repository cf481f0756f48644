import os
os.truncate("/data/access.log", 0)
