"""The methods that FairQuant is compared with."""
