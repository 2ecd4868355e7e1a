toDate(t, 'Europe/Berlin') = today() # now
