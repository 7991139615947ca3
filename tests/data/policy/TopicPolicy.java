import java.util.Map;
import org.apache.kafka.common.errors.PolicyViolationException;
import org.apache.kafka.server.policy.CreateTopicPolicy;

/** What hosted clusters forbid, for topics whose names begin with "policed-". */
public class TopicPolicy implements CreateTopicPolicy {
    private static final int MAX_PARTITIONS = 6;
    private static final long MAX_MESSAGE_BYTES = 8_388_608;

    @Override
    public void configure(Map<String, ?> settings) {}

    @Override
    public void close() {}

    @Override
    public void validate(RequestMetadata topic) {
        if (!topic.topic().startsWith("policed-")) {
            return;
        }
        Integer partitions = topic.numPartitions();
        if (partitions != null && partitions > MAX_PARTITIONS) {
            throw new PolicyViolationException(partitions + " partitions are more than the " + MAX_PARTITIONS + " of this plan");
        }
        String bytes = topic.configs().get("max.message.bytes");
        if (bytes != null && Long.parseLong(bytes) > MAX_MESSAGE_BYTES) {
            throw new PolicyViolationException("messages of " + bytes + " bytes need the larger plan");
        }
        if (topic.topic().contains("reserved")) {
            throw new PolicyViolationException("names with 'reserved' are for administrators");
        }
    }
}
