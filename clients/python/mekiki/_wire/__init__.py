"""How a call travels: the policy is plain Python, and what differs between the colours is one small file per colour."""
