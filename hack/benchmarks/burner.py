"""Burns the processor time of one core until it is ended. Started by inserts.py, as a process of its own."""

if __name__ == "__main__":
    while True:
        pass
