"""The methods FairQuant is compared with."""
