-- What is nobody's is found without a look at what is somebody's, which has no entry here.
CREATE INDEX address_unclaimed ON address_record (set_id, unclaimed) WHERE unclaimed IS NOT NULL;
